// resp.js - a Redis client for tests: RESP2, pipelined, and nothing that repairs itself. What it
// cannot reach it says at once.

import net from 'node:net';
import tls from 'node:tls';
import { guard } from './wait.js';

export class RedisError extends Error {}

// Reads one reply at `at`; undefined when it is not whole yet. Gives [value, end].
function parse(bytes, at) {
  const eol = bytes.indexOf('\r\n', at, 'latin1');
  if (eol < 0) return undefined;
  const text = bytes.toString('utf8', at + 1, eol);
  const next = eol + 2;
  switch (String.fromCharCode(bytes[at])) {
    case '+': return [text, next];
    case '-': return [new RedisError(text), next];
    case ':': return [Number(text), next];
    case '$': {
      const n = Number(text);
      if (n < 0) return [null, next];
      return bytes.length < next + n + 2 ? undefined : [bytes.toString('utf8', next, next + n), next + n + 2];
    }
    case '*': {
      if (Number(text) < 0) return [null, next];
      const items = [];
      let end = next;
      for (let i = 0; i < Number(text); i++) {
        const item = parse(bytes, end);
        if (!item) return undefined;
        items.push(item[0]);
        end = item[1];
      }
      return [items, end];
    }
    default: throw new Error(`not RESP: ${JSON.stringify(bytes.toString('latin1', at, at + 40))}`);
  }
}

export function encode(args) {
  return [`*${args.length}\r\n`, ...args.map((a) => `$${Buffer.byteLength(String(a))}\r\n${a}\r\n`)].join('');
}

export class Resp {
  // where: {port} or {path}, and {ca} for TLS.
  static async connect(where, ms) {
    const socket = where.ca ? tls.connect({ host: '127.0.0.1', ...where }) : net.connect(where.path ? { path: where.path } : { host: '127.0.0.1', port: where.port });
    const resp = new Resp(socket);
    await guard(new Promise((resolve, reject) => socket.once(where.ca ? 'secureConnect' : 'connect', resolve).once('error', reject)), 'a connection to Redis', ms);
    return resp;
  }

  constructor(socket) {
    this.socket = socket;
    this.waiting = [];
    this.bytes = Buffer.alloc(0);
    socket.on('data', (d) => this.feed(d));
    socket.on('error', (e) => (this.error = e));
    socket.on('close', () => {
      this.closed = true;
      for (const w of this.waiting.splice(0)) w.reject(this.error || new Error('Redis closed the connection'));
    });
  }

  feed(data) {
    this.bytes = this.bytes.length ? Buffer.concat([this.bytes, data]) : data;
    let at = 0;
    for (let one; at < this.bytes.length && (one = parse(this.bytes, at)); at = one[1]) {
      const w = this.waiting.shift();
      if (one[0] instanceof RedisError) w?.reject(one[0]);
      else w?.resolve(one[0]);
    }
    this.bytes = this.bytes.subarray(at);
  }

  command(...args) {
    if (this.closed) return Promise.reject(this.error || new Error('Redis closed the connection'));
    return guard(
      new Promise((resolve, reject) => {
        this.waiting.push({ resolve, reject });
        this.socket.write(encode(args));
      }),
      () => `Redis to answer ${args.join(' ').slice(0, 100)}`,
    );
  }

  close() {
    this.socket.destroy();
  }
}
