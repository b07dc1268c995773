// sse.js - an event stream read from a raw socket, to the byte; over HTTP/2 where the tests want it.

import { http2Everywhere } from './dial.js';
import { EventStream } from './eventstream.js';
import { query } from './http.js';
import { sharedHttp2 } from './http2.js';
import { Raw } from './raw.js';
import { atEnd } from './wait.js';

export class Sse extends EventStream {
  // Connects and waits for the header of the answer.
  static async open(server, parameters, { headers = {}, path = '/events', accept = 'text/event-stream' } = {}) {
    const raw = await Raw.connect(server.port);
    const lines = Object.entries({ Host: server.host, Accept: accept, ...headers }).map(([n, v]) => `${n}: ${v}\r\n`);
    const q = typeof parameters === 'string' ? parameters : query(parameters);
    raw.send(`GET ${path}${q ? `?${q}` : ''} HTTP/1.1\r\n${lines.join('')}\r\n`);
    const stream = new Sse(raw);
    stream.head = await raw.head();
    stream.decode(stream.head.headers['content-encoding']);
    stream.chunked = stream.head.headers['transfer-encoding'] === 'chunked';
    raw.watchers.add(stream.watcher);
    stream.read();
    return stream;
  }

  constructor(raw) {
    super();
    this.raw = raw;
    this.watcher = () => this.read();
  }

  read() {
    const raw = this.raw;
    if (this.chunked) {
      for (;;) {
        const rest = raw.rest;
        const eol = rest.indexOf('\r\n');
        if (eol < 0) break;
        const size = parseInt(rest.toString('latin1', 0, eol), 16);
        if (rest.length < eol + 2 + size + 2) break;
        this.take(rest.subarray(eol + 2, eol + 2 + size));
        raw.at += eol + 2 + size + 2;
        if (size === 0) this.finish();
      }
    } else if (raw.rest.length) {
      const rest = raw.rest;
      raw.at = raw.received.length;
      this.take(rest);
    }
    if (raw.closed) this.finish();
  }

  close() {
    this.raw.close();
  }
}

export async function openSse(t, server, parameters, options) {
  const stream = http2Everywhere ? await (await sharedHttp2(server)).events(parameters, options) : await Sse.open(server, parameters, options);
  atEnd(t, () => stream.close());
  return stream;
}
