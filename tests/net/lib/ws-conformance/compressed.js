// compressed.js - sections 12 and 13: permessage-deflate (RFC 7692), five kinds of payload and seven
// ways to offer it, each in 18 sizes and fragmentations.
//
// Autobahn's files are not here; each kind is made by rule, with the same traits. Where Autobahn sends
// a thousand messages a case, 64 are sent and at most 512 KiB, over TLS and HTTP/2 at most 128 KiB, but
// never fewer than two. They are compressed in turn in each way a client may (RFC 7692 7.2.3).
//
// The server always demands client_no_context_takeover and promises the like, because a message is
// compressed once for all clients. A window of 8 bits it cannot promise (zlib's smallest is 9), so it
// passes such an offer over: 13.3 and 13.5 are then plain, 13.7 takes the second offer.

import { constants, deflateRawSync } from 'node:zlib';
import { BINARY, TEXT } from './client.js';
import { fragments, noise } from './cases.js';

const KIB = 1024;

function words(n) {
  const bytes = noise(n);
  const syllables = ['fau', 'st', 'me', 'phi', 'gret', 'chen', 'und', 'die', 'teuf', 'el', 'hab', 'nun', 'ach', 'wie', 'geist', 'er'];
  return Array.from(bytes, (b) => syllables[b & 15] + (b & 0x30 ? '' : ' ')).join('');
}

const object = (i) => [Buffer.from(`${i} 0 obj\n<< /Length ${4000 + i} >>\nstream\n`), noise(4000 + i), Buffer.from('\nendstream\nendobj\n')];
const records = Array.from(noise(3000), (b, i) => ({ id: i, name: `item-${b}`, tags: ['a', 'b', 'c'].slice(b % 3), price: b / 4, active: b > 127 }));
const page = records.map((r) => `<tr class="row"><td>${r.id}</td><td><a href="/item/${r.id}?x=1&amp;y=2">${r.name}</a></td><td>${r.price}</td></tr>\n`).join('');
const KINDS = {
  json: { opcode: TEXT, data: Buffer.from(JSON.stringify(records)) },
  bitmap: { opcode: BINARY, data: Buffer.from(noise(512 * 512).map((b, i) => (i % 512) / 4 + (i >> 13) + (b & 3))) },
  prose: { opcode: BINARY, data: Buffer.from(words(70000).replaceAll('ue', 'ü'), 'latin1') }, // not UTF-8
  html: { opcode: TEXT, data: Buffer.from(`<!DOCTYPE html><table>\n${page}</table>\n`) },
  pdf: { opcode: BINARY, data: Buffer.concat(Array.from({ length: 64 }, (_, i) => object(i)).flat()) },
};

// [bytes of a message, bytes of a fragment; 0: one frame]
const SIZES = [
  ...[16, 64, 256, KIB, 4 * KIB, 8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB, 128 * KIB].map((n) => [n, 0]),
  ...[8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB, 128 * KIB].map((n) => [n, 256]),
  ...[KIB, 4 * KIB, 32 * KIB].map((n) => [128 * KIB, n]),
];

const BASE = 'permessage-deflate; client_no_context_takeover; client_max_window_bits';
const TAKEN = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover';
const NO_TAKEOVER = `${BASE}; server_no_context_takeover`;
export const OFFERS = [
  [BASE, TAKEN],
  [NO_TAKEOVER, TAKEN],
  [`${BASE}; server_max_window_bits=8`, undefined],
  [`${BASE}; server_max_window_bits=15`, `${TAKEN}; server_max_window_bits=15`],
  [`${NO_TAKEOVER}; server_max_window_bits=8`, undefined],
  [`${NO_TAKEOVER}; server_max_window_bits=15`, `${TAKEN}; server_max_window_bits=15`],
  [`${NO_TAKEOVER}; server_max_window_bits=8, ${NO_TAKEOVER}, ${BASE}`, TAKEN],
];

// The message as most clients compress it.
export function flushed(payload, options) {
  const out = deflateRawSync(payload, { ...options, finishFlush: constants.Z_SYNC_FLUSH });
  return out.subarray(0, out.length - 4);
}

// Each is a message as RFC 7692 7.2.1 makes it, or as 7.2.3 allows it.
const WAYS = [
  (payload) => flushed(payload),
  (payload) => flushed(payload, { level: 1, windowBits: 9 }),
  (payload) => flushed(payload, { level: 0 }), // stored blocks
  (payload) => Buffer.concat([deflateRawSync(payload), Buffer.from([0])]), // a final block
  (payload) => flushed(payload, { strategy: constants.Z_FIXED }),
  (payload) => { // two pieces behind each other
    const half = payload.length >> 1;
    return Buffer.concat([deflateRawSync(payload.subarray(0, half), { finishFlush: constants.Z_SYNC_FLUSH }), flushed(payload.subarray(half))]);
  },
];

function slice(data, from, n) {
  return Buffer.concat([data.subarray(from % data.length, (from % data.length) + n), data]).subarray(0, n);
}

function rounds({ opcode, data }, size, fragment) {
  return async (ws, { fewer, compressed }) => {
    const n = Math.max(2, Math.min(64, (fewer ? 128 : 512) * KIB / size));
    for (let i = 0; i < n; i++) {
      const payload = slice(data, i * size, size);
      const wire = compressed ? WAYS[i % WAYS.length](payload) : payload;
      await ws.send(fragments(opcode, wire, fragment || Infinity, compressed ? 4 : 0));
      await ws.expect({ opcode, payload });
    }
    // What does get smaller comes back compressed.
    if (compressed && opcode === TEXT && size >= 4 * KIB && ws.compressed !== n) throw new Error(`${ws.compressed} of ${n} echoes were compressed`);
  };
}

function group(section, kind, [offer, agreed]) {
  return SIZES.map(([size, fragment], i) => ({
    id: `${section}.${i + 1}`, what: `${kind} in messages of ${size}, fragments of ${fragment || size}`, large: true, offer, agreed,
    play: rounds(KINDS[kind], size, fragment),
  }));
}

export const COMPRESSED = [
  { name: '12 compressed', n: 90, cases: ['json', 'bitmap', 'prose', 'html', 'pdf'].flatMap((kind, i) => group(`12.${i + 1}`, kind, OFFERS[0])) },
  { name: '13 compressed as offered', n: 126, cases: OFFERS.flatMap((offer, i) => group(`13.${i + 1}`, 'json', offer)) },
];
