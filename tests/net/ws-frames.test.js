// The WebSocket protocol itself (RFC 6455), by hand; over HTTP/1.1 and over HTTP/2.

import assert from 'node:assert/strict';
import test from 'node:test';
import { publish } from './lib/http.js';
import { startServer } from './lib/server.js';
import { openWs, refusedWs } from './lib/wsclient.js';
import { BINARY, CLOSE, closePayload, CONTINUE, frame, openRawWs, PING, PONG, TEXT } from './lib/wsraw.js';

const RAW = '/ws?format=raw&channel=a';

test('frames sent together with the handshake are read', async (t) => {
  const server = await startServer(t);
  const ws = await openRawWs(t, server, RAW, { early: [frame(TEXT, 'early'), frame(TEXT, 'bird')] });
  assert.equal((await ws.frame()).payload.toString(), 'early');
  assert.equal((await ws.frame()).payload.toString(), 'bird');
});

test('a foreign origin gets 403, the own one does not', async (t) => {
  const server = await startServer(t);
  for (const path of ['/ws?channel=a', '/chat/lobby']) {
    const answer = await refusedWs(server, path, { origin: 'https://evil.example' });
    assert.deepEqual([answer.status, answer.json().code], [403, 'origin_not_allowed']);
    assert.equal((await refusedWs(server, path, { origin: 'null' })).status, 403);
  }
  await openWs(t, server, '/ws?channel=a', { origin: server.origin });
});

test('server frames are not masked, whole and without extension bits', async (t) => {
  const server = await startServer(t);
  const ws = await openRawWs(t, server, RAW);
  for (const n of [0, 1, 125, 126, 127, 65535, 65536]) {
    await publish(server, 'a', 'x'.repeat(n));
    const f = await ws.frame();
    assert.deepEqual([f.fin, f.rsv, f.opcode, f.masked, f.payload.length], [true, 0, TEXT, false, n]);
  }
});

test('lengths in every form are read', async (t) => {
  const server = await startServer(t);
  const ws = await openRawWs(t, server, RAW);
  for (const n of [0, 1, 125, 126, 127, 65535, 65536]) {
    ws.send(frame(TEXT, 'x'.repeat(n)));
    assert.equal((await ws.frame()).payload.length, n);
  }
});

test('a frame in single bytes', async (t) => {
  const server = await startServer(t);
  const ws = await openRawWs(t, server, RAW);
  for (const byte of frame(TEXT, 'byte by byte, ein schönes Wort')) ws.send(Buffer.from([byte]));
  assert.equal((await ws.frame()).payload.toString(), 'byte by byte, ein schönes Wort');
});

test('fragments, with pings in between, and UTF-8 cut in the middle of a character', async (t) => {
  const server = await startServer(t);
  const ws = await openRawWs(t, server, RAW);
  const bytes = Buffer.from('Grüße 世界');
  ws.send(frame(TEXT, bytes.subarray(0, 3), { fin: false }));
  ws.send(frame(PING, 'one'));
  ws.send(frame(CONTINUE, bytes.subarray(3, 9), { fin: false }), frame(PING, 'two'), frame(CONTINUE, '', { fin: false }));
  ws.send(frame(CONTINUE, bytes.subarray(9)));
  const answers = [await ws.frame(), await ws.frame(), await ws.frame()];
  assert.deepEqual(answers.map((f) => [f.opcode, f.payload.toString()]), [[PONG, 'one'], [PONG, 'two'], [TEXT, 'Grüße 世界']]);
});

test('a fragmented command', async (t) => {
  const server = await startServer(t);
  const ws = await openRawWs(t, server, '/ws');
  ws.send(frame(TEXT, '{"op":"pi', { fin: false }), frame(CONTINUE, 'ng","ref":1}'));
  assert.deepEqual(await ws.json(), { op: 'pong', ref: 1 });
});

test('a ping is answered with its payload, a pong is not answered', async (t) => {
  const server = await startServer(t);
  const ws = await openRawWs(t, server, '/ws?channel=a');
  ws.send(frame(PONG, 'unasked'), frame(PING, ''), frame(PING, 'x'.repeat(125)));
  const answers = [await ws.frame(), await ws.frame()];
  assert.deepEqual(answers.map((f) => [f.opcode, f.payload.length]), [[PONG, 0], [PONG, 125]]);
});

for (const [what, frames, code, path = '/ws?channel=a'] of [
  ['an unmasked frame', [frame(TEXT, '{}', { mask: false })], 1002],
  ['RSV1', [frame(TEXT, '{}', { rsv: 4 })], 1002],
  ['RSV2', [frame(TEXT, '{}', { rsv: 2 })], 1002],
  ['RSV3 on a ping', [frame(PING, '', { rsv: 1 })], 1002],
  ['opcode 3', [frame(3, 'x')], 1002],
  ['opcode 7', [frame(7, 'x')], 1002],
  ['opcode 11', [frame(11, '')], 1002],
  ['opcode 15', [frame(15, '')], 1002],
  ['a fragmented ping', [frame(PING, 'x', { fin: false })], 1002],
  ['a fragmented close', [frame(CLOSE, closePayload(1000), { fin: false })], 1002],
  ['a ping of 126 bytes', [frame(PING, 'x'.repeat(126))], 1002],
  ['a close of 126 bytes', [frame(CLOSE, closePayload(1000, 'x'.repeat(124)))], 1002],
  ['a continuation of nothing', [frame(CONTINUE, 'x')], 1002],
  ['a continuation after the end', [frame(TEXT, '{"op":"ping"}'), frame(CONTINUE, 'x')], 1002],
  ['a new message within one', [frame(TEXT, 'x', { fin: false }), frame(TEXT, 'y')], 1002],
  ['a length of 64 bits with the highest set', [frame(TEXT, '', { length: 2 ** 63, lengthBytes: 8 })], 1002],
  ['a 16-bit length that fits in 7', [frame(TEXT, 'x'.repeat(5), { lengthBytes: 2 })], 1002],
  ['a 64-bit length that fits in 16', [frame(TEXT, 'x'.repeat(500), { lengthBytes: 8 })], 1002],
  ['a close of one byte', [frame(CLOSE, 'x')], 1002],
  ...[0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535].map((c) => [`a close with ${c}`, [frame(CLOSE, closePayload(c))], 1002]),
  ['a close with a reason that is not UTF-8', [frame(CLOSE, Buffer.from([3, 232, 0xff]))], 1007],
  ['text that is not UTF-8', [frame(TEXT, Buffer.from([0x61, 0xff]))], 1007],
  ['an overlong form', [frame(TEXT, Buffer.from([0xc0, 0xaf]))], 1007],
  ['a surrogate', [frame(TEXT, Buffer.from([0xed, 0xa0, 0x80]))], 1007],
  ['half a character at the end', [frame(TEXT, Buffer.from([0xe4, 0xb8]))], 1007],
  ['half a character at the end, raw', [frame(TEXT, Buffer.from([0xe4, 0xb8]))], 1007, RAW],
  ['bad UTF-8 in a second fragment', [frame(TEXT, 'ok', { fin: false }), frame(CONTINUE, Buffer.from([0xff]), { fin: false })], 1007],
  ['a binary frame for JSON', [frame(BINARY, '{}')], 1003],
  ['2 GiB announced', [frame(TEXT, '', { length: 2 ** 31, lengthBytes: 8 })], 1009],
  ['2 GiB announced, raw binary', [frame(BINARY, '', { length: 2 ** 31, lengthBytes: 8 })], 1009, RAW],
  ['too much in fragments, raw', [frame(BINARY, Buffer.alloc(40000), { fin: false }), frame(CONTINUE, Buffer.alloc(40000))], 1009, RAW],
  ['far too much in fragments without an end', Array.from({ length: 40 }, (_, i) => frame(i ? CONTINUE : TEXT, 'x'.repeat(40000), { fin: false })), 1009],
]) {
  test(`${what} is closed with ${code}`, async (t) => {
    const server = await startServer(t);
    const ws = await openRawWs(t, server, path);
    ws.send(...frames);
    assert.equal((await ws.closed()).code, code);
    await server.connected({ ws: 0 });
  });
}

test('what was queued comes before the close', async (t) => {
  const server = await startServer(t);
  const ws = await openRawWs(t, server, '/ws');
  ws.send(frame(TEXT, '{"op":"ping","ref":1}'), frame(PING, 'x'), frame(TEXT, '{"op":"ping","ref":2}'), frame(3, ''));
  const opcodes = [];
  for (;;) {
    const f = await ws.frame();
    opcodes.push(f.opcode);
    if (f.opcode === CLOSE) break;
  }
  assert.deepEqual(opcodes, [TEXT, PONG, TEXT, CLOSE]);
});

for (const [what, last, code] of [['a Close', frame(CLOSE, closePayload(1000)), 1000], ['a violation', frame(3, ''), 1002]]) {
  test(`what was sent before ${what} is carried out and answered before the Close`, async (t) => {
    const server = await startServer(t);
    const raw = await openRawWs(t, server, RAW);
    raw.send(frame(TEXT, 'said before'), last);
    const heard = [await raw.frame(), await raw.frame()];
    assert.deepEqual([heard[0].payload.toString(), heard[1].payload.readUInt16BE()], ['said before', code]);
    assert.equal(await raw.raw.all(), '');
    const ws = await openRawWs(t, server, '/ws');
    ws.send(frame(TEXT, '{"op":"publish","channel":"a","data":1,"ref":1}'), frame(TEXT, '{"op":"subscribe","channel":"b","ref":2}'), last);
    assert.deepEqual([(await ws.json()).ref, (await ws.json()).ref], [1, 2]);
    assert.equal((await ws.frame()).payload.readUInt16BE(), code);
    assert.equal(await ws.raw.all(), '');
    await server.connected({ ws: 0 });
  });
}

test('what was sent before a binary frame is answered before the Close that refuses it, nothing after it is', async (t) => {
  const server = await startServer(t);
  const ws = await openRawWs(t, server, '/ws?channel=a');
  ws.send(frame(TEXT, '{"op":"publish","channel":"b","data":1,"ref":1}'), frame(BINARY, 'x'), frame(TEXT, '{"op":"ping","ref":2}'), frame(PING, 'y'));
  assert.equal((await ws.json()).ref, 1);
  assert.equal((await ws.frame()).payload.readUInt16BE(), 1003);
  ws.send(frame(CLOSE, closePayload(1003)));
  assert.equal(await ws.raw.all(), '');
});

for (const code of [1000, 1001, 1003, 1007, 1011, 1012, 1014, 3000, 4999]) {
  test(`a close with ${code} is answered with it, then the end`, async (t) => {
    const server = await startServer(t);
    const ws = await openRawWs(t, server, '/ws?channel=a');
    ws.send(frame(CLOSE, closePayload(code, 'bye')));
    const f = await ws.frame();
    assert.equal(f.opcode, CLOSE);
    assert.equal(f.payload.readUInt16BE(), code);
    assert.equal(await ws.raw.all(), '');
    await server.connected({ ws: 0 });
  });
}

test('an empty close is answered', async (t) => {
  const server = await startServer(t);
  const ws = await openRawWs(t, server, '/ws?channel=a');
  ws.send(frame(CLOSE));
  const f = await ws.frame();
  assert.equal(f.opcode, CLOSE);
  assert.equal(await ws.raw.all(), '');
});

test('what comes after a close is not read', async (t) => {
  const server = await startServer(t);
  const watcher = await openWs(t, server, '/ws?channel=a');
  const ws = await openRawWs(t, server, RAW);
  ws.send(frame(CLOSE, closePayload(1000)), frame(TEXT, 'too late'));
  await ws.raw.all();
  await publish(server, 'a', 'fence');
  assert.equal((await watcher.next()).data, 'fence');
});

test('a ping comes when nothing is heard; who answers stays', async (t) => {
  const server = await startServer(t, ['--ws-ping', '300ms', '--ws-pong', '1s']);
  const ws = await openWs(t, server, '/ws?channel=a'); // npm ws answers by itself
  for (let i = 0; i < 3; i++) await ws.pings.next('a ping');
  await publish(server, 'a', 'still here');
  assert.equal((await ws.next()).data, 'still here');
});

test('who does not answer the ping is dropped', async (t) => {
  const server = await startServer(t, ['--ws-ping', '300ms', '--ws-pong', '1s']);
  const ws = await openRawWs(t, server, '/ws?channel=a');
  assert.equal((await ws.frame()).opcode, PING);
  await ws.raw.all();
  await server.connected({ ws: 0 });
});

test('any sign of life counts', async (t) => {
  const server = await startServer(t, ['--ws-ping', '300ms', '--ws-pong', '1s']);
  const ws = await openRawWs(t, server, '/ws?channel=a');
  for (let i = 0; i < 3; i++) {
    assert.equal((await ws.frame()).opcode, PING);
    ws.send(frame(TEXT, `{"op":"ping","ref":${i}}`));
    assert.deepEqual(await ws.json(), { op: 'pong', ref: i });
  }
});

test('a client that vanishes is forgotten', async (t) => {
  const server = await startServer(t);
  const sockets = [];
  for (let i = 0; i < 6; i++) sockets.push(await openRawWs(t, server, '/ws?channel=a'));
  await server.connected({ ws: 6 });
  sockets.forEach((ws, i) => (i % 2 ? ws.raw.socket.resetAndDestroy() : ws.raw.socket.end()));
  await server.connected({ ws: 0 });
});
