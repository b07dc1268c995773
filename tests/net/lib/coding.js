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

// The frame at the start of `bytes` (RFC 8878 3.1.1): where it ends, how long its content is, and
// the content itself if it is not compressed; undefined while it is not all there.
export function zstdFrame(bytes) {
  if (bytes.length < 5) return undefined;
  if (bytes.readUInt32LE(0) !== 0xfd2fb528) throw new Error(`not a zstd frame: ${bytes.subarray(0, 8).toString('hex')}`);
  const [flags, single] = [bytes[4], (bytes[4] >> 5) & 1];
  const sizeAt = 5 + (single ? 0 : 1) + [0, 1, 2, 4][flags & 3];
  const sizeBytes = [0, 2, 4, 8][flags >> 6] || single;
  if (bytes.length < sizeAt + sizeBytes) return undefined;
  if (sizeBytes < 1 || sizeBytes > 4) throw new Error('a zstd frame without the size of its content');
  const size = bytes.readUIntLE(sizeAt, sizeBytes) + (sizeBytes === 2 ? 256 : 0);
  const parts = [];
  let raw = true;
  let at = sizeAt + sizeBytes;
  for (let last = false; !last; ) {
    if (bytes.length < at + 3) return undefined;
    const head = bytes.readUIntLE(at, 3);
    const [type, length] = [(head >> 1) & 3, head >> 3];
    raw &&= type === 0;
    parts.push(bytes.subarray(at + 3, at + 3 + length));
    at += 3 + (type === 1 ? 1 : length);
    last = (head & 1) === 1;
  }
  at += flags & 4 ? 4 : 0;
  if (bytes.length < at) return undefined;
  return { packed: bytes.subarray(0, at), size, plain: raw ? Buffer.concat(parts) : undefined };
}

function unzstd(bytes) {
  if (zlib.zstdDecompressSync) return zlib.zstdDecompressSync(bytes);
  const { status, stdout, stderr } = spawnSync('zstd', ['-dcq'], { input: bytes, maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error(`zstd: ${stderr}`);
  return stdout;
}

// Node has no zstd before 22.15 and a process is slow: one for all frames that came together, and
// what another client of the test got before is known.
const known = new Map();
function unpackFrames(frames) {
  const key = (frame) => (frame.key ??= frame.packed.toString('latin1'));
  const unknown = frames.filter((f) => !f.plain && !known.has(key(f)));
  let plain = unknown.length ? unzstd(Buffer.concat(unknown.map((f) => f.packed))) : undefined;
  for (const frame of unknown) {
    known.set(key(frame), plain.subarray(0, frame.size));
    plain = plain.subarray(frame.size);
  }
  if (plain?.length) throw new Error('zstd frames are longer than they say');
  const all = Buffer.concat(frames.map((f) => f.plain ?? known.get(key(f))));
  if (known.size > 5000) known.clear();
  return all;
}

class Zstd {
  constructor(onText, onEnd) {
    Object.assign(this, { onText, onEnd, rest: Buffer.alloc(0), text: new TextDecoder() });
  }
  write(bytes) {
    this.rest = this.rest.length ? Buffer.concat([this.rest, bytes]) : bytes;
    const frames = [];
    for (let frame; (frame = zstdFrame(this.rest)); ) {
      frames.push(frame);
      this.rest = this.rest.subarray(frame.packed.length);
    }
    if (frames.length) this.onText(this.text.decode(unpackFrames(frames), { stream: true }));
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
