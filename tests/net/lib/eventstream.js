// eventstream.js - what an event stream says, whatever carries it.
//
// The parser follows WHATWG HTML, "Interpreting an event stream", and gives comments and retry
// fields as items of their own, since the protocol speaks of them.

import { decoderFor } from './coding.js';
import { Queue } from './wait.js';

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

export class EventStream {
  constructor() {
    this.body = '';
    this.items = new Queue('the event stream'); // everything
    this.events = new Queue('the event stream'); // without comments and retry
    this.bytes = 0; // of the body, on the wire
    this.early = []; // came before the head was heard of: node may say 'data' before 'response'
    this.parser = new EventStreamParser((item) => {
      this.items.push(item);
      if (item.event) this.events.push(item);
    });
  }

  // Once the head is there. `whole` is set at the end: had the coded body its end?
  decode(coding) {
    const onText = (text) => {
      this.body += text;
      this.parser.feed(text);
    };
    this.decoder = decoderFor(coding, onText, (whole) => {
      this.whole = whole;
      this.endQueues();
    });
    for (const bytes of this.early.splice(0)) this.decoder.write(bytes);
  }

  take(bytes) {
    this.bytes += bytes.length;
    if (this.decoder) this.decoder.write(bytes);
    else this.early.push(bytes);
  }

  finish() {
    if (this.finished) return;
    this.finished = true;
    if (this.decoder) this.decoder.end();
    else this.endQueues();
  }

  endQueues() {
    this.items.end();
    this.events.end();
  }

  // The next event must be this one of the server's own; gives its data, with the id line's value as `id`.
  async own(name) {
    const event = await this.events.next(name);
    if (event.event !== name) throw new Error(`expected ${name}, got ${JSON.stringify(event)}`);
    return { ...JSON.parse(event.data), id: event.hasId ? event.id : undefined };
  }
  ready() {
    return this.own('crier.ready');
  }
  gap() {
    return this.own('crier.gap');
  }
}
