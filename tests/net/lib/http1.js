// http1.js - one kept connection, one request at a time, as little work as can be: for tests in
// which hundreds of clients ask again and again. What is not an answer of known length fails.

import { dial } from './dial.js';

const CRLF2 = Buffer.from('\r\n\r\n');

function failure(message, code) {
  return Object.assign(new Error(message), { code });
}

function parseHead(all) {
  const i = all.indexOf(CRLF2);
  if (i < 0) return null;
  const [line, ...fields] = all.toString('latin1', 0, i).split('\r\n');
  const headers = Object.fromEntries(fields.map((f) => [f.slice(0, f.indexOf(':')).toLowerCase(), f.slice(f.indexOf(':') + 1).trim()]));
  const start = i + CRLF2.length;
  return { status: Number(line.split(' ')[1]), headers, start, end: start + Number(headers['content-length']) };
}

export class Http1 {
  constructor(server) {
    this.server = server;
    this.bytes = [];
    this.length = 0;
  }

  open() {
    this.socket = dial(this.server.port, { noDelay: true });
    this.bytes = [];
    this.length = 0;
    this.head = null;
    const socket = this.socket;
    let why;
    socket.on('data', (bytes) => this.feed(bytes));
    socket.on('error', (e) => (why = e));
    socket.on('close', () => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.settle(why ?? failure('the server closed the connection', 'ECONNRESET'));
    });
  }

  // {status, headers, text}
  ask(method, path, headers = {}, body = '') {
    if (this.waiting) throw new Error('one at a time');
    const lines = Object.entries(headers).map(([n, v]) => `${n}: ${v}\r\n`).join('');
    const length = method === 'GET' ? '' : `Content-Length: ${Buffer.byteLength(body)}\r\n`;
    return new Promise((resolve, reject) => {
      this.waiting = { resolve, reject };
      if (!this.socket) this.open();
      this.socket.write(`${method} ${path} HTTP/1.1\r\nHost: ${this.server.host}\r\n${lines}${length}\r\n${body}`);
    });
  }

  settle(outcome) {
    const waiting = this.waiting;
    this.waiting = null;
    if (waiting) (outcome instanceof Error ? waiting.reject : waiting.resolve)(outcome);
  }

  feed(bytes) {
    this.bytes.push(bytes);
    this.length += bytes.length;
    if (this.head && this.length < this.head.end) return undefined;
    const all = this.bytes.length > 1 ? Buffer.concat(this.bytes) : this.bytes[0];
    this.bytes = [all];
    this.head ??= parseHead(all);
    if (!this.head || all.length < this.head.end) return undefined;
    if (Number.isNaN(this.head.end)) return this.close(failure('an answer without length', 'EPROTO'));
    const { status, headers, start, end } = this.head;
    if (all.length > end) return this.close(failure('more came than was asked for', 'EPROTO'));
    this.bytes = [];
    this.length = 0;
    this.head = null;
    this.settle({ status, headers, text: all.toString('utf8', start, end) });
    return headers.connection === 'close' && this.close();
  }

  // Who waits for an answer is told.
  close(why = failure('closed here', 'ECANCELED')) {
    const socket = this.socket;
    this.socket = null;
    socket?.destroy();
    this.settle(why);
  }
}
