// sse.js - an event stream read from a raw socket: the bytes and what they mean.
//
// The parser follows WHATWG HTML, "Interpreting an event stream", and gives comments and retry
// fields as items of their own, since the protocol speaks of them.

import { decoderFor } from './coding.js';
import { query } from './http.js';
import { Raw } from './raw.js';
import { atEnd, Queue } from './wait.js';

export class EventStreamParser {
  constructor(emit) {
    this.emit = emit;
    this.text = '';
    this.lastId = '';
    this.clear();
  }
  clear() {
    this.data = null;
    this.type = '';
    this.hasId = false;
  }
  feed(text) {
    this.text += text;
    for (;;) {
      // A CR at the end may be half of a CRLF.
      const m = /\r\n|\n|\r(?!$)/.exec(this.text);
      if (!m) return;
      const line = this.text.slice(0, m.index);
      this.text = this.text.slice(m.index + m[0].length);
      this.line(line);
    }
  }
  line(line) {
    if (line === '') {
      if (this.data !== null)
        this.emit({ event: this.type || 'message', data: this.data, id: this.lastId, hasId: this.hasId });
      this.clear();
      return;
    }
    if (line.startsWith(':')) {
      this.emit({ comment: line.slice(1) });
      return;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    if (field === 'data') this.data = this.data === null ? value : `${this.data}\n${value}`;
    else if (field === 'event') this.type = value;
    else if (field === 'id' && !value.includes('\0')) {
      this.lastId = value;
      this.hasId = true;
    } else if (field === 'retry' && /^\d+$/.test(value)) this.emit({ retry: Number(value) });
  }
}

export class Sse {
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
    this.raw = raw;
    this.body = '';
    this.items = new Queue('the event stream'); // everything
    this.events = new Queue('the event stream'); // without comments and retry
    this.bytes = 0; // of the body, on the wire
    this.parser = new EventStreamParser((item) => {
      this.items.push(item);
      if (item.event) this.events.push(item);
    });
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

  // `whole` is set at the end: had the coded body its end?
  decode(coding) {
    const onText = (text) => {
      this.body += text;
      this.parser.feed(text);
    };
    this.decoder = decoderFor(coding, onText, (whole) => {
      this.whole = whole;
      this.items.end();
      this.events.end();
    });
  }

  take(bytes) {
    this.bytes += bytes.length;
    this.decoder.write(bytes);
  }

  finish() {
    if (this.finished) return;
    this.finished = true;
    this.decoder.end();
  }

  // The next event must be crier.ready; gives its data, with the id line's value as `id`.
  async ready() {
    const event = await this.events.next('crier.ready');
    if (event.event !== 'crier.ready') throw new Error(`expected crier.ready, got ${JSON.stringify(event)}`);
    return { ...JSON.parse(event.data), id: event.hasId ? event.id : undefined };
  }

  async gap() {
    const event = await this.events.next('crier.gap');
    if (event.event !== 'crier.gap') throw new Error(`expected crier.gap, got ${JSON.stringify(event)}`);
    return { ...JSON.parse(event.data), id: event.hasId ? event.id : undefined };
  }

  close() {
    this.raw.close();
  }
}

export async function openSse(t, server, parameters, options) {
  const stream = await Sse.open(server, parameters, options);
  atEnd(t, () => stream.close());
  return stream;
}
