// http2.js - one HTTP/2 connection, by prior knowledge or over TLS, and its streams.

import http2 from 'node:http2';
import { query } from './http.js';
import { EventStream } from './eventstream.js';
import { atEnd, guard, Queue } from './wait.js';
import { WsClient } from './wsclient.js';

const { NGHTTP2_CANCEL } = http2.constants;

// Not within a callback of the connection: there node 20 puts the reset off but forgets the stream at
// once, and what is still to be sent on it becomes empty frames without end.
export function cancel(stream) {
  setImmediate(() => stream.close(NGHTTP2_CANCEL));
}

async function whole(stream, what) {
  const chunks = [];
  stream.on('data', (c) => chunks.push(c));
  const end = new Promise((resolve) => stream.once('end', resolve).once('close', resolve));
  const head = await stream.head;
  await guard(end, `the end of the answer to ${what}`);
  const bytes = Buffer.concat(chunks);
  const text = bytes.toString();
  return { ...head, bytes, text, json: () => JSON.parse(text) };
}

export class Http2 {
  constructor(server, settings) {
    this.server = server;
    this.goaways = new Queue('GOAWAYs');
    this.session = http2.connect(server.origin, settings);
    this.session.on('error', (e) => (this.error = e));
    this.session.on('goaway', (code, last) => this.goaways.push({ code, last }));
    this.ended = new Promise((resolve) => this.session.once('close', resolve));
  }

  static async connect(server, settings) {
    const h2 = new Http2(server, settings);
    await guard(
      new Promise((resolve, reject) => h2.session.once('remoteSettings', resolve).once('close', () => reject(h2.error ?? new Error('closed')))),
      'the settings of an HTTP/2 server',
    );
    return h2;
  }

  // A stream whose answer's head is awaited by `.head`.
  stream(headers, options) {
    const stream = this.session.request({ ':authority': this.server.host, ...headers }, options);
    stream.on('error', (e) => (stream.failure = e));
    stream.ended = new Promise((resolve) => stream.once('close', () => resolve(stream.rstCode)));
    const head = new Promise((resolve, reject) => {
      stream.once('response', (h) => resolve({ status: h[':status'], headers: h }));
      stream.once('close', () => reject(stream.failure ?? new Error(`reset with ${stream.rstCode}`)));
    });
    head.catch(() => {});
    stream.head = guard(head, `the answer to ${headers[':path']}`);
    stream.head.catch(() => {});
    return stream;
  }

  // One request, everything of the answer.
  request(path, { method = 'GET', headers = {}, body, signal } = {}) {
    const stream = this.stream({ ':method': method, ':path': path, ...headers }, { endStream: body === undefined, signal });
    if (body !== undefined) stream.end(body);
    return whole(stream, `${method} ${path}`);
  }

  async events(parameters, { headers = {}, path = '/events', accept = 'text/event-stream' } = {}) {
    const q = typeof parameters === 'string' ? parameters : query(parameters);
    const stream = this.stream({ ':path': `${path}${q ? `?${q}` : ''}`, accept, ...headers });
    const sse = new Http2Sse(stream);
    sse.head = await stream.head;
    return sse;
  }

  // A WebSocket by extended CONNECT (RFC 8441).
  connectWs(path, { headers = {}, protocol = 'websocket' } = {}) {
    return this.stream(
      { ':method': 'CONNECT', ':protocol': protocol, ':scheme': this.server.scheme, ':path': path, 'sec-websocket-version': '13', ...headers },
      { endStream: false },
    );
  }

  // The answer to a CONNECT that is refused.
  async refusedWs(path, options) {
    const stream = this.connectWs(path, options);
    const { status } = await stream.head;
    if (status !== 200) return whole(stream, `CONNECT ${path}`);
    cancel(stream);
    throw new Error(`${path} was opened`);
  }

  async openedWs(path, options) {
    const stream = this.connectWs(path, options);
    const head = await stream.head;
    if (head.status === 200) return { stream, head };
    cancel(stream);
    throw new Error(`no WebSocket: ${head.status}`);
  }

  async webSocket(path, options) {
    const { stream, head } = await this.openedWs(path, options);
    const client = WsClient.over(stream, path, head.headers['sec-websocket-protocol']);
    client.head = head;
    return client;
  }

  close() {
    this.session.destroy();
  }
}

class Http2Sse extends EventStream {
  constructor(stream) {
    super();
    this.stream = stream;
    stream.once('response', (head) => this.decode(head['content-encoding']));
    stream.on('data', (bytes) => this.take(bytes));
    stream.once('end', () => (this.wholly = true));
    stream.once('close', () => this.finish());
  }
  close() {
    cancel(this.stream);
  }
}

export async function openHttp2(t, server, settings) {
  const h2 = await Http2.connect(server, settings);
  atEnd(t, () => h2.close());
  return h2;
}

// The connection that all listeners of a test share, as the tabs of a browser do.
const shared = new WeakMap();
export function sharedHttp2(server) {
  const known = shared.get(server);
  if (known && !known.gone) return known.opening;
  const mine = { gone: false, opening: Http2.connect(server) };
  shared.set(server, mine);
  mine.opening.then((h2) => {
    const leave = () => (mine.gone = true);
    h2.session.once('goaway', leave).once('close', leave);
    h2.session.unref();
  }, () => (mine.gone = true));
  return mine.opening;
}
