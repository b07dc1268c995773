// follower.js - a client that stays: whatever breaks, it comes back with its cursor, at the next
// server, and writes down what it got, per channel.

import { openListener } from './transports.js';
import { pause } from './wait.js';

const RETRY_MS = 30;

export class Follower {
  constructor(servers, transport, channels, { home = 0, names } = {}) {
    Object.assign(this, { servers, transport, channels, at: home, names });
    this.records = new Map(channels.map((c) => [c, []])); // ids and {gap}
    this.opened = 0;
    this.dropped = 0; // connections that broke while it listened
    this.items = 0;
  }

  async connect(times = Infinity) {
    for (; !this.listener && !this.over; times--) {
      const server = this.servers[this.at % this.servers.length];
      try {
        const listener = await openListener(server, this.transport, this.channels, this.cursor);
        this.cursor = listener.cursor ?? this.cursor;
        this.listener = listener;
        this.opened++;
      } catch (e) {
        if (times <= 1) throw e;
        this.at++;
        await pause(RETRY_MS);
      }
    }
    return this;
  }

  // Reads until a message with the data `fence` came in every channel, or until leave().
  follow(fence) {
    this.fence = fence;
    this.awaited = new Set(this.channels);
    return new Promise((resolve, reject) => {
      this.done = resolve;
      this.failed = reject;
      this.read();
    });
  }

  async read() {
    try {
      await this.connect();
    } catch (e) {
      this.failed(e);
    }
    const listener = this.listener;
    if (this.over || !listener) return this.done(this);
    try {
      listener.read((item) => listener === this.listener && this.take(item), (e) => listener === this.listener && this.lost(e));
    } catch (e) {
      this.failed(e);
    }
    return undefined;
  }

  take(item) {
    this.cursor = this.listener.cursor;
    if (item.gap) {
      this.records.get(item.gap.channel).push({ gap: item.gap });
      return;
    }
    this.names?.note(item.id, item.data);
    this.records.get(item.channel).push(item.id);
    this.items++;
    if (item.data !== this.fence) return;
    this.awaited.delete(item.channel);
    if (this.awaited.size === 0) this.leave();
  }

  async lost(e) {
    // A guard: nothing came for much too long, though the connection is there.
    if (/in vain/.test(e.message)) this.failed(new Error(`${this.transport} of ${this.channels}: ${e.message}`, { cause: e }));
    this.dropped++;
    this.at++;
    await this.close();
    await pause(RETRY_MS);
    this.read();
  }

  async close() {
    const listener = this.listener;
    this.listener = undefined;
    await listener?.close();
  }

  async leave() {
    this.over = true;
    await this.close();
    this.done?.(this);
  }

  ids(channel) {
    return this.records.get(channel).filter((item) => !item.gap);
  }
  gaps(channel) {
    return this.records.get(channel).filter((item) => item.gap).map((item) => item.gap);
  }
}
