// transports.js - one way to listen to channels over any transport, for tests that compare them.
//
// A listener has `cursor` (good on every transport), and next() which gives {data, id, channel}
// or {gap}. Gaps and messages come in the order in which the transport said them. read() gives the
// same without a promise per item, for tests with hundreds of listeners.

import { Http1 } from './http1.js';
import { query } from './http.js';
import { sharedHttp2 } from './http2.js';
import { Sse } from './sse.js';
import { atEnd, guard, Queue } from './wait.js';
import { WsClient } from './wsclient.js';

// What does not open must not stay behind.
async function orClose(listener, opening) {
  try {
    return await opening;
  } catch (e) {
    await listener.close();
    throw e;
  }
}

class Listener {
  async next() {
    for (;;) {
      const item = this.translate(await this.source.next(`a message or gap over ${this.transport}`));
      if (item) return item;
    }
  }
  read(onItem, onEnd) {
    this.source.flow((raw) => {
      const item = this.translate(raw);
      if (item) onItem(item);
    }, onEnd);
  }
}

class SseListener extends Listener {
  static async open(server, channels, since) {
    const self = new this();
    self.stream = await self.connect(server, { channel: channels, since, format: 'json' });
    const ready = await orClose(self, self.stream.ready());
    self.source = self.stream.events;
    self.client = ready.client;
    self.cursor = ready.id;
    return self;
  }
  connect(server, parameters) {
    return Sse.open(server, parameters);
  }
  translate(event) {
    if (event.hasId) this.cursor = event.id;
    if (event.event === 'crier.gap') return { gap: JSON.parse(event.data) };
    if (event.event !== 'message') throw new Error(`unexpected ${JSON.stringify(event)}`);
    return JSON.parse(event.data);
  }
  async close() {
    this.stream.close();
  }
}

class GzipSseListener extends SseListener {
  connect(server, parameters) {
    return Sse.open(server, parameters, { headers: { 'Accept-Encoding': 'gzip' } });
  }
}

class ZstdSseListener extends SseListener {
  connect(server, parameters) {
    return Sse.open(server, parameters, { headers: { 'Accept-Encoding': 'zstd' } });
  }
}

class WsListener extends Listener {
  static async open(server, channels, since) {
    const self = new this();
    self.ws = await self.connect(server, `/ws?${query({ channel: channels, since })}`);
    const ready = await orClose(self, self.ws.next('ready'));
    self.source = self.ws.frames;
    self.client = ready.client;
    // A WebSocket has a cursor per channel; joined they are one cursor.
    self.cursors = new Map(ready.channels.map((c) => [c.channel, c.cursor]));
    return self;
  }
  async connect(server, path) {
    this.ws = new WsClient(server.wsUrl(path));
    return orClose(this, this.ws.opened());
  }
  get cursor() {
    return [...this.cursors.values()].join('~');
  }
  translate(frame) {
    const { op, ...rest } = JSON.parse(frame);
    if (op === 'join' || op === 'leave') return undefined;
    if (op === 'gap') {
      this.cursors.set(rest.channel, rest.cursor);
      return { gap: rest };
    }
    if (op !== 'message') throw new Error(`unexpected ${frame}`);
    this.cursors.set(rest.channel, rest.id);
    return rest;
  }
  async close() {
    this.ws.socket.terminate();
  }
}

class DeflateWsListener extends WsListener {
  async connect(server, path) {
    this.ws = new WsClient(server.wsUrl(path), { perMessageDeflate: true });
    return orClose(this, this.ws.opened());
  }
}

// The answer to a poll lists gaps apart from messages; `since` says behind which message one is.
function inPlace({ messages, gaps }) {
  const items = [...messages];
  for (const gap of gaps) items.splice(messages.length && gap.since ? items.findIndex((m) => m.id === gap.since) + 1 : 0, 0, { gap });
  return items;
}

class PollListener extends Listener {
  static async open(server, channels, since) {
    const self = new this();
    Object.assign(self, { server, channels, cursor: since, source: new Queue('the polls') });
    if (!since) await orClose(self, self.ask());
    return self;
  }
  async ask() {
    const path = `/poll?${query({ channel: this.channels, since: this.cursor, timeout: 20 })}`;
    const { status, text } = await guard(this.get(path), `the answer to ${path}`);
    if (status !== 200) throw new Error(`poll answered ${status} ${text}`);
    const answer = JSON.parse(text);
    this.cursor = answer.cursor;
    for (const item of inPlace(answer)) this.source.push(item);
  }
  get(path) {
    this.http ??= new Http1(this.server);
    return this.http.ask('GET', path);
  }
  async next() {
    while (!this.source.items.length) await this.ask();
    return this.source.next();
  }
  read(onItem, onEnd) {
    this.source.flow(onItem, () => {});
    const again = () => !this.closed && this.ask().then(again, onEnd);
    again();
  }
  async close() {
    this.closed = true;
    this.http?.close();
  }
}

// The same as streams of one HTTP/2 connection.
class H2SseListener extends SseListener {
  async connect(server, parameters) {
    return (await sharedHttp2(server)).events(parameters);
  }
}

class H2GzipSseListener extends SseListener {
  async connect(server, parameters) {
    return (await sharedHttp2(server)).events(parameters, { headers: { 'accept-encoding': 'gzip' } });
  }
}

class H2WsListener extends WsListener {
  async connect(server, path) {
    return (await sharedHttp2(server)).webSocket(path);
  }
}

class H2PollListener extends PollListener {
  async get(path) {
    return (await sharedHttp2(this.server)).request(path);
  }
}

const OPEN = { sse: SseListener, ws: WsListener, poll: PollListener };
const OPEN_H2 = { 'h2-sse': H2SseListener, 'h2-ws': H2WsListener, 'h2-poll': H2PollListener };
const OPEN_CODED = { 'sse-gzip': GzipSseListener, 'sse-zstd': ZstdSseListener, 'h2-sse-gzip': H2GzipSseListener, 'ws-deflate': DeflateWsListener };
export const TRANSPORTS = Object.keys(OPEN); // over HTTP/1.1
export const ALL_TRANSPORTS = [...TRANSPORTS, ...Object.keys(OPEN_H2)];
export const CODED_TRANSPORTS = Object.keys(OPEN_CODED); // the same bytes, compressed

export async function openListener(server, transport, channels, since) {
  const listener = await { ...OPEN, ...OPEN_H2, ...OPEN_CODED }[transport].open(server, channels, since);
  listener.transport = transport;
  return listener;
}

export async function listen(t, server, transport, channels, since) {
  const listener = await openListener(server, transport, channels, since);
  atEnd(t, () => listener.close());
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
