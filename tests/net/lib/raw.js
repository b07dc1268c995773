// raw.js - exact bytes over one socket, or what else is a stream of bytes both ways.

import { dial } from './dial.js';
import { atEnd, guard } from './wait.js';

export class Raw {
  static async connect(port, options = {}) {
    const socket = dial(port, options);
    const raw = new Raw(socket);
    await guard(new Promise((resolve, reject) => socket.once('dialled', resolve).once('error', reject)), 'a connection');
    return raw;
  }

  constructor(socket) {
    this.socket = socket;
    this.received = Buffer.alloc(0); // what was not consumed when more came, and that
    this.at = 0; // what of it was consumed since
    this.watchers = new Set();
    this.ended = new Promise((resolve) => (this.end = resolve));
    socket.setNoDelay?.(true);
    socket.on('data', (bytes) => {
      const { rest } = this;
      this.received = rest.length ? Buffer.concat([rest, bytes]) : bytes;
      this.at = 0;
      this.look();
    });
    socket.on('error', (e) => (this.error = e));
    socket.on('close', () => {
      this.closed = true;
      this.end();
      this.look();
    });
    socket.on('end', () => {
      this.closed = true;
      this.end();
      this.look();
    });
  }

  look() {
    for (const watcher of [...this.watchers]) watcher();
  }

  send(bytes) {
    this.socket.write(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes);
    return this;
  }

  get rest() {
    return this.received.subarray(this.at);
  }

  // Resolves with the value as soon as `find(rest)` gives one; rejects when the peer ends before.
  wait(find, what) {
    return guard(
      new Promise((resolve, reject) => {
        const watcher = () => {
          const value = find(this.rest);
          if (value !== undefined && value !== null && value !== false) {
            this.watchers.delete(watcher);
            resolve(value);
          } else if (this.closed) {
            this.watchers.delete(watcher);
            reject(new Error(`the peer ended before ${what}; it sent ${JSON.stringify(this.rest.toString('latin1').slice(-400))}`));
          }
        };
        this.watchers.add(watcher);
        watcher();
      }),
      () => `${what}; got ${JSON.stringify(this.rest.toString('latin1').slice(-400))}`,
    );
  }

  async bytes(n) {
    await this.wait((rest) => rest.length >= n, `${n} bytes`);
    const out = this.rest.subarray(0, n);
    this.at += n;
    return out;
  }

  async through(text) {
    const end = await this.wait((rest) => {
      const i = rest.indexOf(text, 0, 'latin1');
      return i >= 0 && i + text.length;
    }, JSON.stringify(text));
    return (await this.bytes(end)).toString('latin1');
  }

  // Everything up to the end of the stream.
  async all() {
    await guard(this.ended, () => `the end of the stream; got ${JSON.stringify(this.rest.toString('latin1').slice(-400))}`);
    const out = this.rest.toString('latin1');
    this.at = this.received.length;
    return out;
  }

  async head() {
    const text = await this.through('\r\n\r\n');
    const [line, ...fields] = text.slice(0, -4).split('\r\n');
    const headers = {};
    for (const field of fields) {
      const name = field.slice(0, field.indexOf(':')).toLowerCase();
      const value = field.slice(field.indexOf(':') + 1).trim();
      headers[name] = name in headers ? `${headers[name]}, ${value}` : value;
    }
    return { line, status: Number(line.split(' ')[1]), headers, text };
  }

  // One whole answer with a body of known length or chunks.
  async answer() {
    const head = await this.head();
    let body = '';
    if (head.headers['transfer-encoding'] === 'chunked') {
      for (;;) {
        const size = parseInt(await this.through('\r\n'), 16);
        body += (await this.bytes(size)).toString('latin1');
        await this.bytes(2);
        if (size === 0) break;
      }
    } else if (head.headers['content-length'] !== undefined) {
      body = (await this.bytes(Number(head.headers['content-length']))).toString('latin1');
    } else if (head.status !== 204 && head.status !== 101) {
      body = await this.all();
    }
    return { ...head, body, json: () => JSON.parse(body) };
  }

  close() {
    this.socket.destroy();
  }
}

export async function rawConnect(t, server, options) {
  const raw = await Raw.connect(server.port, options);
  atEnd(t, () => raw.close());
  return raw;
}
