// publisher.js - publishes over HTTP with an Idempotency-Key, again and again until the message is
// acknowledged, at whatever server answers.

import { query } from './http.js';
import { Http1 } from './http1.js';
import { guard, pause } from './wait.js';

const RETRY_MS = 25;

export class Publisher {
  constructor(servers, name, { home = 0, names } = {}) {
    Object.assign(this, { servers, name, at: home, names, sent: 0 });
    this.acknowledged = new Map(); // channel -> [id]
    this.refusals = new Map(); // status or error code -> times
    this.slowest = 0;
  }

  async once(channel, data, key) {
    const began = performance.now();
    const server = this.servers[this.at % this.servers.length];
    if (this.http?.server !== server) {
      this.close();
      this.http = new Http1(server);
    }
    try {
      const headers = { 'Content-Type': 'text/plain', 'Idempotency-Key': key };
      const { status, headers: back, text } = await guard(this.http.ask('POST', `/publish?${query({ channel })}`, headers, data), 'a publish is answered');
      if (status === 200) return JSON.parse(text);
      if (status !== 503 || !back['retry-after']) throw new Error(`publish answered ${status} ${text} ${JSON.stringify(back)}`);
      this.refused(503);
    } catch (e) {
      if (!e.code) throw e;
      this.refused(e.code);
      this.at++;
    } finally {
      this.slowest = Math.max(this.slowest, performance.now() - began);
    }
    return undefined;
  }

  refused(why) {
    this.refusals.set(why, (this.refusals.get(why) ?? 0) + 1);
  }

  // Gives the id. `data` is unique, so it serves as key.
  async publish(channel, data = `${this.name}.${this.sent++}`) {
    const key = `${channel}|${data}`.replaceAll(' ', '_');
    for (;;) {
      const answer = await this.once(channel, data, key);
      if (answer) {
        this.names?.note(answer.id, data);
        if (!this.acknowledged.has(channel)) this.acknowledged.set(channel, []);
        this.acknowledged.get(channel).push(answer.id);
        return answer.id;
      }
      if (this.over) return undefined;
      await pause(RETRY_MS);
    }
  }

  close() {
    this.http?.close();
  }
}
