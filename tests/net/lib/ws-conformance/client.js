// client.js - a WebSocket client that decides about every byte it sends and doubts every byte it
// gets: a server's frame that RFC 6455 or RFC 7692 does not allow ends the case as a failure.

import { inflateRawSync } from 'node:zlib';
import { guard } from '../wait.js';

export const CONTINUE = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10;
const KEY = Buffer.from([0x37, 0xfa, 0x21, 0x3d]);
const NAMES = { [TEXT]: 'text', [BINARY]: 'binary', [CLOSE]: 'Close', [PING]: 'ping', [PONG]: 'pong' };

// The bytes of one frame from a client.
export function encode({ opcode, payload = '', fin = true, rsv = 0 }) {
  const body = Buffer.isBuffer(payload) ? payload : Buffer.from(payload);
  const form = body.length < 126 ? 0 : body.length < 65536 ? 2 : 8;
  const out = Buffer.allocUnsafe(6 + form + body.length);
  out[0] = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  out[1] = 0x80 | (form === 0 ? body.length : form === 2 ? 126 : 127);
  if (form === 2) out.writeUInt16BE(body.length, 2);
  if (form === 8) out.writeBigUInt64BE(BigInt(body.length), 2);
  KEY.copy(out, 2 + form);
  const from = 6 + form;
  for (let i = 0; i < body.length; i++) out[from + i] = body[i] ^ KEY[i & 3];
  return out;
}

export function closing(code, reason = '') {
  return { opcode: CLOSE, payload: Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]) };
}

export function show({ opcode, payload }) {
  const bytes = Buffer.from(payload ?? '');
  const code = opcode === CLOSE && bytes.length > 1 ? ` ${bytes.readUInt16BE()}` : '';
  return `${NAMES[opcode] ?? opcode}${code} of ${bytes.length} bytes ${bytes.subarray(0, 48).toString('hex')}`;
}

export class Client {
  // `deflate`: permessage-deflate was agreed on, and the server said server_no_context_takeover.
  constructor(pipe, { deflate = false } = {}) {
    this.pipe = pipe;
    this.deflate = deflate;
    this.chunks = [];
    this.have = 0;
    this.need = 2;
    this.frames = [];
    this.compressed = 0;
    pipe.listen(this);
  }

  // --- what comes

  bytes(chunk) {
    this.chunks.push(chunk);
    this.have += chunk.length;
    while (!this.wrong && this.have >= this.need) this.parse();
    this.wake?.();
  }

  over(how) {
    if (how !== 'end') this.wrong ??= `the connection ended with: ${how}`;
    else if (this.have) this.wrong ??= `the server ended within a frame, after ${this.have} bytes of it`;
    this.ended = true;
    this.wake?.();
  }

  parse() {
    const all = this.chunks.length > 1 ? Buffer.concat(this.chunks) : this.chunks[0];
    this.chunks = [all];
    const form = { 126: 2, 127: 8 }[all[1] & 0x7f] ?? 0;
    if (all.length < 2 + form) return void (this.need = 2 + form);
    const length = form === 0 ? all[1] : form === 2 ? all.readUInt16BE(2) : Number(all.readBigUInt64BE(2));
    this.wrong ??= this.doubt(all[0], all[1], length, form);
    if (this.wrong) return;
    this.need = 2 + form + length;
    if (all.length < this.need) return;
    this.take(all[0], all.subarray(2 + form, this.need));
    this.chunks = [all.subarray(this.need)];
    this.have -= this.need;
    this.need = 2;
  }

  // What may not be in the header of a server's frame.
  doubt(first, second, length, form) {
    const opcode = first & 15;
    const rsv = (first >> 4) & 7;
    if (this.closed) return `a frame after the Close: opcode ${opcode}`;
    if (!(opcode in NAMES)) return `a frame with opcode ${opcode}`;
    if (!(first & 0x80)) return 'a fragment, which this server never sends';
    if (rsv && !(rsv === 4 && this.deflate && opcode <= BINARY)) return `reserved bits ${rsv} on opcode ${opcode}`;
    if (second & 0x80) return 'a masked frame';
    if (opcode >= CLOSE && length > 125) return `a control frame of ${length} bytes`;
    if ((form === 2 && length < 126) || (form === 8 && length < 65536)) return `length ${length} in ${form} bytes`;
    return undefined;
  }

  take(first, bytes) {
    const opcode = first & 15;
    let payload = bytes;
    if (first & 0x40) {
      this.compressed++;
      try {
        payload = inflateRawSync(Buffer.concat([bytes, Buffer.from([0, 0, 0xff, 0xff])]), { finishFlush: 2 /* Z_SYNC_FLUSH */ });
      } catch (e) {
        this.wrong = `a message that does not inflate: ${e.message}`;
      }
    }
    if (opcode === CLOSE) {
      this.closed = true;
      if (payload.length === 1) this.wrong = 'a Close with half a code';
    }
    if (opcode === TEXT || opcode === CLOSE) {
      try {
        new TextDecoder('utf-8', { fatal: true }).decode(opcode === CLOSE ? payload.subarray(2) : payload);
      } catch {
        this.wrong = `a ${NAMES[opcode]} that is not UTF-8`;
      }
    }
    this.frames.push({ opcode, payload });
  }

  until(condition, what, ms) {
    const arrival = new Promise((resolve) => {
      this.wake = () => (this.wrong || condition()) && resolve();
      this.wake();
    });
    return guard(arrival, what, ms).then(() => {
      this.wake = null;
      if (this.wrong) throw new Error(`${this.wrong} (instead of ${typeof what === 'function' ? what() : what})`);
    });
  }

  // The next frame must be exactly this one.
  async expect(wanted) {
    const what = () => `${show(wanted)}; the server sent ${this.frames.length ? show(this.frames[0]) : this.ended ? 'its end' : 'nothing more'}`;
    await this.until(() => this.frames.length || this.ended, what);
    const frame = this.frames.shift();
    const payload = Buffer.from(wanted.payload ?? '');
    if (!frame) throw new Error(`the server ended; wanted ${show(wanted)}`);
    if (frame.opcode !== wanted.opcode || !frame.payload.equals(payload)) throw new Error(`the server sent ${show(frame)}; wanted ${show(wanted)}`);
  }

  // Now a Close with this code, whatever reason it gives.
  async expectFailure(code) {
    await this.until(() => this.frames.length || this.ended, `a Close ${code}`);
    const frame = this.frames.shift();
    if (!frame) throw new Error(`the server ended without a Close; wanted ${code}`);
    if (frame.opcode !== CLOSE || frame.payload.length < 2 || frame.payload.readUInt16BE() !== code)
      throw new Error(`the server sent ${show(frame)}; wanted a Close ${code}`);
  }

  // Nothing follows the Close but the server's orderly end, which does not wait for anything of ours
  // (it would do so for 5 s): when a question that is asked now is answered (`fence`), it is on its way.
  async expectEnd(fence) {
    if (fence) await fence();
    await this.until(() => this.frames.length || this.ended, "the server's end", fence ? 2500 : undefined);
    if (this.frames.length) throw new Error(`the server sent ${show(this.frames[0])}; wanted its end`);
    await this.pipe.finish();
  }

  // --- what goes

  // `chop`: 'one' write for all, one per 'frame', or writes of so many bytes.
  async send(frames, chop = 'one') {
    const bytes = frames.map((f) => (Buffer.isBuffer(f) ? f : encode(f)));
    if (chop === 'frame') for (const one of bytes) await this.push(one);
    else await this.chopped(Buffer.concat(bytes), chop === 'one' ? Infinity : chop);
  }

  async chopped(bytes, size) {
    // Octets one by one as the server reads them; larger pieces as fast as they leave.
    for (let at = 0, n = 0; at < bytes.length; at += size) {
      const written = this.push(bytes.subarray(at, Math.min(at + size, bytes.length)));
      if (size === 1 || ++n % 64 === 0 || at + size >= bytes.length) await written;
    }
  }

  async push(bytes) {
    await this.pipe.write(bytes);
    await new Promise(setImmediate);
  }
}
