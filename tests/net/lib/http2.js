// http2.js - one HTTP/2 connection by prior knowledge, many streams.

import http2 from 'node:http2';
import { decoderFor } from './coding.js';
import { query } from './http.js';
import { EventStreamParser } from './sse.js';
import { atEnd, guard, Queue } from './wait.js';
import { WsClient } from './wsclient.js';

const { NGHTTP2_CANCEL } = http2.constants;

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
  async request(path, { method = 'GET', headers = {}, body } = {}) {
    const stream = this.stream({ ':method': method, ':path': path, ...headers }, { endStream: body === undefined });
    const chunks = [];
    stream.on('data', (c) => chunks.push(c));
    const end = new Promise((resolve) => stream.once('end', resolve).once('close', resolve));
    if (body !== undefined) stream.end(body);
    const head = await stream.head;
    await guard(end, `the end of the answer to ${method} ${path}`);
    const text = Buffer.concat(chunks).toString();
    return { ...head, text, json: () => JSON.parse(text) };
  }

  async events(parameters, { headers = {}, path = '/events' } = {}) {
    const stream = this.stream({ ':path': `${path}?${query(parameters)}`, accept: 'text/event-stream', ...headers });
    const sse = new Http2Sse(stream);
    sse.head = await stream.head;
    return sse;
  }

  // A WebSocket by extended CONNECT (RFC 8441).
  connectWs(path, { headers = {}, protocol = 'websocket' } = {}) {
    return this.stream(
      { ':method': 'CONNECT', ':protocol': protocol, ':scheme': 'http', ':path': path, 'sec-websocket-version': '13', ...headers },
      { endStream: false },
    );
  }

  async webSocket(path, options) {
    const stream = this.connectWs(path, options);
    const head = await stream.head;
    if (head.status !== 200) {
      stream.close(NGHTTP2_CANCEL);
      throw new Error(`no WebSocket: ${head.status}`);
    }
    const client = WsClient.over(stream, path);
    client.head = head;
    return client;
  }

  close() {
    this.session.destroy();
  }
}

class Http2Sse {
  constructor(stream) {
    this.stream = stream;
    this.items = new Queue('the event stream');
    this.events = new Queue('the event stream');
    this.body = '';
    this.parser = new EventStreamParser((item) => {
      this.items.push(item);
      if (item.event) this.events.push(item);
    });
    this.bytes = 0; // of the body, on the wire
    stream.once('response', (head) => this.decode(head['content-encoding']));
    stream.on('data', (bytes) => {
      this.bytes += bytes.length;
      this.decoder.write(bytes);
    });
    stream.once('end', () => (this.wholly = true));
    stream.once('close', () => (this.decoder ? this.decoder.end() : this.finish()));
  }
  decode(coding) {
    const onText = (text) => {
      this.body += text;
      this.parser.feed(text);
    };
    this.decoder = decoderFor(coding, onText, (whole) => {
      this.whole = whole;
      this.finish();
    });
  }
  finish() {
    this.items.end();
    this.events.end();
  }
  async ready() {
    const event = await this.events.next('crier.ready');
    if (event.event !== 'crier.ready') throw new Error(`expected crier.ready, got ${JSON.stringify(event)}`);
    return { ...JSON.parse(event.data), id: event.hasId ? event.id : undefined };
  }
  close() {
    this.stream.close(NGHTTP2_CANCEL);
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
