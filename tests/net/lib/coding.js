// coding.js - bodies with a Content-Encoding, decoded as they arrive.
//
// A decoder is {write(bytes), end()}. What it decodes goes to onText at once: an event that can only
// be read when more has come would never be seen. onEnd(whole) hears whether the body was complete.

import { spawnSync } from 'node:child_process';
import zlib from 'node:zlib';

class Plain {
  constructor(onText, onEnd) {
    Object.assign(this, { onText, onEnd, text: new TextDecoder() });
  }
  write(bytes) {
    this.onText(this.text.decode(bytes, { stream: true }));
  }
  end() {
    this.onEnd(true);
  }
}

class Gzip {
  constructor(onText, onEnd) {
    const text = new TextDecoder();
    this.gunzip = zlib.createGunzip();
    this.gunzip.on('data', (bytes) => onText(text.decode(bytes, { stream: true })));
    this.gunzip.once('end', () => this.finish(true));
    this.gunzip.once('error', (e) => {
      this.error = e;
      this.finish(false);
    });
    this.onEnd = onEnd;
  }
  write(bytes) {
    if (!this.finished) this.gunzip.write(bytes);
  }
  end() {
    if (!this.finished) this.gunzip.end();
  }
  finish(whole) {
    if (this.finished) return;
    this.finished = true;
    this.onEnd(whole);
  }
}

// Where the frame at the start of `bytes` ends (RFC 8878 3.1.1), and its content if it is not
// compressed; undefined while it is not all there.
export function zstdFrame(bytes) {
  if (bytes.length < 5) return undefined;
  if (bytes.readUInt32LE(0) !== 0xfd2fb528) throw new Error(`not a zstd frame: ${bytes.subarray(0, 8).toString('hex')}`);
  const [flags, single] = [bytes[4], (bytes[4] >> 5) & 1];
  let at = 5 + (single ? 0 : 1) + [0, 1, 2, 4][flags & 3] + ([0, 2, 4, 8][flags >> 6] || single);
  const raw = [];
  for (let last = false; !last; ) {
    if (bytes.length < at + 3) return undefined;
    const head = bytes.readUIntLE(at, 3);
    const [type, size] = [(head >> 1) & 3, head >> 3];
    if (type === 0) raw.push(bytes.subarray(at + 3, at + 3 + size));
    else raw.compressed = true;
    at += 3 + (type === 1 ? 1 : size);
    last = (head & 1) === 1;
  }
  at += flags & 4 ? 4 : 0;
  if (bytes.length < at) return undefined;
  return { length: at, plain: raw.compressed ? undefined : Buffer.concat(raw) };
}

function unzstd(frame) {
  if (zlib.zstdDecompressSync) return zlib.zstdDecompressSync(frame);
  const { status, stdout, stderr } = spawnSync('zstd', ['-dcq'], { input: frame, maxBuffer: 1 << 26 });
  if (status !== 0) throw new Error(`zstd: ${stderr}`);
  return stdout;
}

// Node has no zstd before 22.15, and a process per frame is slow; but all clients get the same.
const known = new Map();
function unzstdOnce(frame) {
  const key = frame.toString('latin1');
  if (!known.has(key)) {
    if (known.size >= 5000) known.clear();
    known.set(key, unzstd(frame));
  }
  return known.get(key);
}

class Zstd {
  constructor(onText, onEnd) {
    Object.assign(this, { onText, onEnd, rest: Buffer.alloc(0), text: new TextDecoder() });
  }
  write(bytes) {
    this.rest = this.rest.length ? Buffer.concat([this.rest, bytes]) : bytes;
    for (let frame; (frame = zstdFrame(this.rest)); ) {
      const packed = this.rest.subarray(0, frame.length);
      this.rest = this.rest.subarray(frame.length);
      this.onText(this.text.decode(frame.plain ?? unzstdOnce(packed), { stream: true }));
    }
  }
  end() {
    this.onEnd(this.rest.length === 0);
  }
}

export function decoderFor(coding, onText, onEnd) {
  const Decoder = { undefined: Plain, gzip: Gzip, zstd: Zstd }[coding];
  if (!Decoder) throw new Error(`an unknown Content-Encoding: ${coding}`);
  return new Decoder(onText, onEnd);
}
