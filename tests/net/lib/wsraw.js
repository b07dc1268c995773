// wsraw.js - WebSocket frames by hand, for what a decent client never sends.

import { createHash } from 'node:crypto';
import { http2Everywhere } from './dial.js';
import { rawSubscribed } from './http.js';
import { cancel, sharedHttp2 } from './http2.js';
import { Raw, rawConnect } from './raw.js';
import { atEnd } from './wait.js';

const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
export const TEXT = 1, BINARY = 2, CONTINUE = 0, CLOSE = 8, PING = 9, PONG = 10;

export function frame(opcode, payload = '', { fin = true, rsv = 0, mask = true, length, lengthBytes } = {}) {
  const body = Buffer.from(payload);
  const n = length ?? body.length;
  const form = lengthBytes ?? (n < 126 ? 0 : n < 65536 ? 2 : 8);
  const head = Buffer.alloc(2 + form);
  head[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  head[1] = (mask ? 0x80 : 0) | (form === 0 ? n : form === 2 ? 126 : 127);
  if (form === 2) head.writeUInt16BE(n, 2);
  if (form === 8) head.writeBigUInt64BE(BigInt(n), 2);
  if (!mask) return Buffer.concat([head, body]);
  const key = Buffer.from([0x37, 0xfa, 0x21, 0x3d]);
  return Buffer.concat([head, key, Buffer.from(body.map((b, i) => b ^ key[i % 4]))]);
}

export function closePayload(code, reason = '') {
  const out = Buffer.alloc(2 + Buffer.byteLength(reason));
  out.writeUInt16BE(code);
  out.write(reason, 2);
  return out;
}

export function upgradeRequest(server, path, fields = {}) {
  const all = {
    Host: server.host,
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Key': KEY,
    'Sec-WebSocket-Version': '13',
    ...fields,
  };
  const lines = Object.entries(all).filter(([, v]) => v !== null).map(([n, v]) => `${n}: ${v}\r\n`);
  return `GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`;
}

export class RawWs {
  constructor(raw) {
    this.raw = raw;
  }

  send(...frames) {
    this.raw.send(Buffer.concat(frames));
    return this;
  }

  async frame() {
    const [first, second] = await this.raw.bytes(2);
    let n = second & 0x7f;
    if (n === 126) n = (await this.raw.bytes(2)).readUInt16BE();
    else if (n === 127) n = Number((await this.raw.bytes(8)).readBigUInt64BE());
    const payload = Buffer.from(await this.raw.bytes(n));
    return { fin: !!(first & 0x80), rsv: (first >> 4) & 7, opcode: first & 15, masked: !!(second & 0x80), payload };
  }

  async json() {
    const f = await this.frame();
    if (f.opcode !== TEXT) throw new Error(`expected text, got opcode ${f.opcode} ${f.payload.toString('hex')}`);
    return JSON.parse(f.payload.toString());
  }

  // Frames up to the close; gives its code and reason. Then the server must end the connection.
  async closed() {
    for (;;) {
      const f = await this.frame();
      if (f.opcode !== CLOSE) continue;
      const how = { code: f.payload.length ? f.payload.readUInt16BE() : 1005, reason: f.payload.subarray(2).toString() };
      this.send(frame(CLOSE, f.payload));
      await this.raw.all();
      return how;
    }
  }
}

// `early`: frames that are sent together with the handshake.
export async function openRawWs(t, server, path, { fields, early = [] } = {}) {
  const open = async () => {
    const ws = await (http2Everywhere ? overHttp2 : overHttp1)(t, server, path, { fields, early });
    atEnd(t, () => ws.raw.close());
    return ws;
  };
  if (path.includes('format=raw')) return rawSubscribed(server, path, open, (ws) => ws.raw.closed);
  const ws = await open();
  if (path.startsWith('/ws')) ws.ready = await ws.json();
  return ws;
}

async function overHttp1(t, server, path, { fields, early }) {
  const ws = new RawWs(await rawConnect(t, server));
  ws.send(Buffer.from(upgradeRequest(server, path, fields)), ...early);
  ws.head = await ws.raw.head();
  if (ws.head.status !== 101) throw new Error(`no upgrade: ${ws.head.text}`);
  return ws;
}

// A stream is reset and ended as a socket is.
async function overHttp2(t, server, path, { fields, early }) {
  const h2 = await sharedHttp2(server);
  const stream = h2.connectWs(path, { headers: fields });
  stream.resetAndDestroy = () => cancel(stream);
  const ws = new RawWs(new Raw(stream));
  if (early.length) ws.send(...early);
  ws.head = await stream.head;
  if (ws.head.status !== 200) throw new Error(`no WebSocket: ${ws.head.status}`);
  return ws;
}

export function acceptOf(key = KEY) {
  return createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
}
