// poll.js - long polls.

import { get, query } from './http.js';

export async function pollAnswer(server, parameters, options) {
  return get(server, `/poll?${query(parameters)}`, options);
}

export async function poll(server, parameters, options) {
  const answer = await pollAnswer(server, parameters, options);
  if (answer.status !== 200) throw new Error(`poll answered ${answer.status} ${answer.text}`);
  return answer.json();
}

// A client that polls on and on from its cursor.
export class Poller {
  constructor(server, channel, cursor) {
    this.server = server;
    this.channel = channel;
    this.cursor = cursor;
    this.messages = [];
    this.gaps = [];
  }
  async once(parameters = {}) {
    const answer = await poll(this.server, { channel: this.channel, since: this.cursor, ...parameters });
    this.cursor = answer.cursor;
    this.messages.push(...answer.messages);
    this.gaps.push(...answer.gaps);
    return answer;
  }
  async upTo(data) {
    while (!this.messages.some((m) => m.data === data)) await this.once();
    return this.messages;
  }
}
