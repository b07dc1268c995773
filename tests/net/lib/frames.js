// frames.js - HTTP/2 frames by hand, for what a decent client never sends.

import assert from 'node:assert/strict';
import { rawConnect } from './raw.js';

export const DATA = 0, HEADERS = 1, PRIORITY = 2, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, WINDOW_UPDATE = 8, CONTINUATION = 9;
export const END_STREAM = 1, END_HEADERS = 4, PADDED = 8, ACK = 1;
export const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';

export function frame(type, flags, id, payload = Buffer.alloc(0)) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, payload]);
}

export const u32 = (n) => {
  const b = Buffer.alloc(4);
  b.writeUInt32BE(n);
  return b;
};

// Literal fields without indexing, no Huffman (RFC 7541 6.2.2).
export function fields(list) {
  const text = (s) => {
    const b = Buffer.from(s, 'latin1');
    assert.ok(b.length < 127);
    return Buffer.concat([Buffer.from([b.length]), b]);
  };
  return Buffer.concat(list.map(([n, v]) => Buffer.concat([Buffer.from([0]), text(n), text(v)])));
}
export const GET = (path, ...more) => fields([[':method', 'GET'], [':scheme', 'http'], [':authority', 'h'], [':path', path], ...more]);

export class Frames {
  static async open(t, server, settings = Buffer.alloc(0)) {
    const self = new Frames();
    self.raw = await rawConnect(t, server, { alpn: ['h2'] });
    self.raw.send(Buffer.concat([Buffer.from(PREFACE), frame(SETTINGS, 0, 0, settings)]));
    return self;
  }
  send(...all) {
    this.raw.send(Buffer.concat(all));
    return this;
  }
  async next() {
    const head = await this.raw.bytes(9);
    const n = head.readUIntBE(0, 3);
    const payload = n ? Buffer.from(await this.raw.bytes(n)) : Buffer.alloc(0);
    return { type: head[3], flags: head[4], id: head.readUInt32BE(5), payload };
  }
  async upTo(fits) {
    for (;;) {
      const f = await this.next();
      if (fits(f)) return f;
    }
  }
  // The code of the GOAWAY, after which the server must end the connection.
  async goaway() {
    const f = await this.upTo((x) => x.type === GOAWAY);
    await this.raw.all();
    return f.payload.readUInt32BE(4);
  }
}
