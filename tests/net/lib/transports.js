// transports.js - one way to listen to channels over any transport, for tests that compare them.
//
// A listener has `cursor` (good on every transport), and next() which gives {data, id, channel}
// or {gap}. Gaps and messages come in the order in which the transport said them.

import { poll } from './poll.js';
import { Sse } from './sse.js';
import { atEnd, Queue } from './wait.js';
import { WsClient } from './wsclient.js';
import { query } from './http.js';

class SseListener {
  static async open(server, channels, since) {
    const self = new SseListener();
    self.stream = await Sse.open(server, { channel: channels, since, format: 'json' });
    const ready = await self.stream.ready();
    self.client = ready.client;
    self.cursor = ready.id;
    return self;
  }
  async next() {
    const event = await this.stream.events.next('a message or gap over EventSource');
    if (event.hasId) this.cursor = event.id;
    if (event.event === 'crier.gap') return { gap: JSON.parse(event.data) };
    if (event.event !== 'message') throw new Error(`unexpected ${JSON.stringify(event)}`);
    return JSON.parse(event.data);
  }
  async close() {
    this.stream.close();
  }
}

class WsListener {
  static async open(server, channels, since) {
    const self = new WsListener();
    self.ws = new WsClient(server.wsUrl(`/ws?${query({ channel: channels, since })}`));
    await self.ws.opened();
    const ready = await self.ws.next('ready');
    self.client = ready.client;
    // A WebSocket has a cursor per channel; joined they are one cursor.
    self.cursors = new Map(ready.channels.map((c) => [c.channel, c.cursor]));
    return self;
  }
  get cursor() {
    return [...this.cursors.values()].join('~');
  }
  async next() {
    for (;;) {
      const m = await this.ws.next('a message or gap over WebSocket');
      if (m.op === 'join' || m.op === 'leave') continue;
      if (m.op === 'gap') {
        this.cursors.set(m.channel, m.cursor);
        const { op, ...gap } = m;
        return { gap };
      }
      if (m.op !== 'message') throw new Error(`unexpected ${JSON.stringify(m)}`);
      this.cursors.set(m.channel, m.id);
      const { op, ...envelope } = m;
      return envelope;
    }
  }
  async close() {
    this.ws.socket.terminate();
  }
}

class PollListener {
  static async open(server, channels, since) {
    const self = new PollListener();
    Object.assign(self, { server, channels, cursor: since, items: new Queue('the polls'), abort: new AbortController() });
    if (!since) await self.ask();
    return self;
  }
  async ask() {
    const answer = await poll(this.server, { channel: this.channels, since: this.cursor, timeout: 20 }, { signal: this.abort.signal });
    this.cursor = answer.cursor;
    for (const gap of answer.gaps) this.items.push({ gap });
    for (const message of answer.messages) this.items.push(message);
  }
  async next() {
    while (!this.items.items.length) await this.ask();
    return this.items.next();
  }
  async close() {
    this.abort.abort();
  }
}

const OPEN = { sse: SseListener, ws: WsListener, poll: PollListener };
export const TRANSPORTS = Object.keys(OPEN);

export async function listen(t, server, transport, channels, since) {
  const listener = await OPEN[transport].open(server, channels, since);
  atEnd(t, () => listener.close());
  listener.transport = transport;
  return listener;
}

// Data of everything up to the message with this data; a gap is {gap}.
export async function dataThrough(listener, data) {
  const out = [];
  for (;;) {
    const item = await listener.next();
    out.push(item.gap ? { gap: item.gap } : item.data);
    if (item.data === data) return out;
  }
}
