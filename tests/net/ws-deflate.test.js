// permessage-deflate (RFC 7692): what is agreed on, and what a client sends with it. What it gets is
// in pack.test.js.

import assert from 'node:assert/strict';
import { createCipheriv } from 'node:crypto';
import test from 'node:test';
import zlib from 'node:zlib';
import { get, publish } from './lib/http.js';
import { startServer } from './lib/server.js';
import { openWs } from './lib/wsclient.js';
import { CARRIERS, openCarried, shake } from './lib/wscarriers.js';
import { BINARY, CLOSE, CONTINUE, frame, PING, PONG, TEXT } from './lib/wsraw.js';

const TAKEN = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover';
const OFFER = { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' };
const RAW = '/ws?format=raw&channel=a';
const RSV1 = 4;

function deflate(bytes, options) {
  const out = zlib.deflateRawSync(bytes, { finishFlush: zlib.constants.Z_SYNC_FLUSH, ...options });
  assert.equal(out.subarray(-4).toString('hex'), '0000ffff');
  return out.subarray(0, -4);
}

// The payload of a frame, inflated if it is compressed.
function text(f) {
  const bytes = f.rsv & RSV1 ? zlib.inflateRawSync(Buffer.concat([f.payload, Buffer.from([0, 0, 255, 255])]), { finishFlush: zlib.constants.Z_SYNC_FLUSH }) : f.payload;
  return bytes.toString();
}

async function refused(server) {
  return Object.fromEntries([...(await get(server, '/metrics')).text.matchAll(/^crier_refused_total\{reason="(\w+)"\} (\d+)$/gm)].map((m) => [m[1], Number(m[2])]));
}

for (const carrier of CARRIERS) {
  test(`${carrier}: what is offered and what is taken of it`, async (t) => {
    const server = await startServer(t);
    for (const [offer, answer] of [
      ['permessage-deflate', TAKEN],
      ['permessage-deflate; client_max_window_bits', TAKEN],
      ['permessage-deflate; server_max_window_bits=15; client_max_window_bits=10', `${TAKEN}; server_max_window_bits=15`],
      ['permessage-deflate; server_max_window_bits="10"', `${TAKEN}; server_max_window_bits=10`],
      ['permessage-deflate; server_max_window_bits=8', undefined],
      ['permessage-deflate; server_max_window_bits=8, permessage-deflate', TAKEN],
      ['permessage-deflate; server_no_context_takeover; server_no_context_takeover', undefined],
      ['permessage-deflate; strange=1', undefined],
      ['permessage-bzip2, x-webkit-deflate-frame', undefined],
      ['', undefined],
      [['permessage-foo', 'permessage-deflate; bar', 'permessage-deflate; server_max_window_bits=12'], `${TAKEN}; server_max_window_bits=12`],
    ]) {
      const { status, headers } = await shake(t, server, carrier, '/ws?channel=a', { 'Sec-WebSocket-Extensions': offer });
      assert.equal(status, 200, offer);
      assert.equal(headers['sec-websocket-extensions'], answer, `the answer to ${offer}`);
    }
  });

  test(`${carrier}: offers that cannot be read get 400`, async (t) => {
    const server = await startServer(t);
    for (const path of ['/ws?channel=a', '/chat/lobby'])
      for (const offer of ['permessage-deflate;', 'permessage deflate', 'permessage-deflate; a="b', '=1', ['permessage-deflate', ';']])
        assert.equal((await shake(t, server, carrier, path, { 'Sec-WebSocket-Extensions': offer })).status, 400, offer);
    await server.connected({ ws: 0 });
  });

  test(`${carrier}: without --ws-deflate nothing is promised and RSV1 is a violation`, async (t) => {
    const server = await startServer(t, ['--no-ws-deflate']);
    const ws = await openCarried(t, server, carrier, RAW, OFFER);
    assert.equal(ws.headers['sec-websocket-extensions'], undefined);
    ws.send(frame(TEXT, deflate('x'), { rsv: RSV1 }));
    assert.equal((await ws.closed()).code, 1002);
  });

  test(`${carrier}: compressed messages, whole, in fragments and byte by byte`, async (t) => {
    const server = await startServer(t);
    const ws = await openCarried(t, server, carrier, RAW, OFFER);
    const said = 'Grüße aus Köln. '.repeat(200);
    const packed = deflate(said);
    ws.send(frame(TEXT, packed, { rsv: RSV1 }));
    ws.send(frame(TEXT, packed.subarray(0, 5), { rsv: RSV1, fin: false }), frame(PING, 'between'));
    ws.send(frame(CONTINUE, packed.subarray(5, 6), { fin: false }), frame(CONTINUE, packed.subarray(6)));
    for (const byte of frame(TEXT, packed, { rsv: RSV1 })) ws.send(Buffer.from([byte]));
    ws.send(frame(TEXT, said), frame(TEXT, Buffer.from([0]), { rsv: RSV1 }));
    const heard = [];
    while (heard.length < 6) heard.push(await ws.frame());
    const pong = heard.findIndex((f) => f.opcode === PONG);
    assert.deepEqual(heard.splice(pong, 1).map(text), ['between']);
    assert.deepEqual(heard.map(text), [said, said, said, said, '']);
  });

  test(`${carrier}: a compressed command`, async (t) => {
    const server = await startServer(t);
    const ws = await openCarried(t, server, carrier, '/ws', OFFER);
    ws.send(frame(TEXT, deflate('{"op":"ping","ref":7}'), { rsv: RSV1 }));
    assert.deepEqual(JSON.parse(text(await ws.frame())), { op: 'pong', ref: 7 });
  });

  for (const [what, frames, code] of [
    ['RSV1 on a continuation', [frame(TEXT, deflate('x'), { rsv: RSV1, fin: false }), frame(CONTINUE, '', { rsv: RSV1 })], 1002],
    ['RSV1 on a ping', [frame(PING, '', { rsv: RSV1 })], 1002],
    ['RSV1 on a close', [frame(CLOSE, '', { rsv: RSV1 })], 1002],
    ['RSV2', [frame(TEXT, deflate('x'), { rsv: RSV1 | 2 })], 1002],
    ['what does not inflate', [frame(TEXT, 'this is not DEFLATE', { rsv: RSV1 })], 1007],
    ['what ends within a block', [frame(TEXT, deflate('abcdefgh'.repeat(99)).subarray(0, -3), { rsv: RSV1 })], 1007],
    ['text that is not UTF-8 when inflated', [frame(TEXT, deflate(Buffer.from([0x61, 0xff])), { rsv: RSV1 })], 1007],
    ['a bomb', [frame(BINARY, deflate(Buffer.alloc(2 ** 26), { level: 9 }), { rsv: RSV1 })], 1009],
    ['one byte too many', [frame(BINARY, deflate(Buffer.alloc(65537)), { rsv: RSV1 })], 1009],
    ['a compressed giant announced', [frame(BINARY, '', { rsv: RSV1, length: 2 ** 20, lengthBytes: 8 })], 1009],
  ]) {
    test(`${carrier}: ${what} is closed with ${code}`, async (t) => {
      const server = await startServer(t);
      const ws = await openCarried(t, server, carrier, RAW, OFFER);
      ws.send(...frames);
      assert.equal((await ws.closed()).code, code);
      assert.equal((await refused(server))[code === 1009 ? 'websocket_message_size' : 'websocket_protocol'], 1);
      await server.connected({ ws: 0 });
    });
  }

  test(`${carrier}: a message of exactly the limit that does not get smaller`, async (t) => {
    const server = await startServer(t);
    const ws = await openCarried(t, server, carrier, RAW, OFFER);
    const noise = createCipheriv('aes-128-ctr', 'deterministic...', Buffer.alloc(16)).update(Buffer.alloc(65536));
    const packed = deflate(noise);
    assert.ok(packed.length > 65536);
    ws.send(frame(BINARY, packed, { rsv: RSV1 }));
    const f = await ws.frame();
    assert.deepEqual([f.opcode, f.rsv, f.payload.equals(noise)], [BINARY, 0, true]);
  });
}

test('the window, the level and the strategy are the client\'s affair', async (t) => {
  const server = await startServer(t);
  const ws = await openCarried(t, server, 'HTTP/1.1', RAW, OFFER);
  const said = Array.from({ length: 3000 }, (_, i) => `${i * i}`).join(' ');
  for (const options of [{ windowBits: 9 }, { level: 0 }, { level: 1 }, { level: 9 }, { strategy: zlib.constants.Z_FIXED }, { strategy: zlib.constants.Z_HUFFMAN_ONLY }, { memLevel: 1 }]) {
    ws.send(frame(TEXT, deflate(said, options), { rsv: RSV1 }));
    assert.equal(text(await ws.frame()), said);
  }
});

test('a message ended by a final block (RFC 7692 7.2.3.4) is read', async (t) => {
  const server = await startServer(t);
  const ws = await openCarried(t, server, 'HTTP/1.1', RAW, OFFER);
  ws.send(frame(TEXT, Buffer.concat([zlib.deflateRawSync('Hello'), zlib.deflateRawSync(' and more'), Buffer.from([0])]), { rsv: RSV1 }));
  assert.equal(text(await ws.frame()), 'Hello and more');
});

test('many clients of npm ws that compress everything', async (t) => {
  const server = await startServer(t);
  const clients = await Promise.all(Array.from({ length: 10 }, () => openWs(t, server, '/ws?channel=a', { perMessageDeflate: { threshold: 0 } })));
  clients.forEach((ws, i) => ws.send({ op: 'publish', channel: 'a', data: `${i} `.repeat(500), echo: true }));
  for (const ws of clients) {
    const heard = (await ws.upTo((m) => m.op === 'message' && (ws.n = (ws.n ?? 0) + 1) === clients.length)).filter((m) => m.op === 'message');
    assert.deepEqual(heard.map((m) => parseInt(m.data, 10)).sort(), clients.map((_, i) => i));
  }
});

test('permessage-deflate, as npm ws speaks it, is agreed to unless --no-ws-deflate', async (t) => {
  for (const [flags, extensions] of [[[], 'permessage-deflate'], [['--no-ws-deflate'], '']]) {
    const server = await startServer(t, flags);
    const ws = await openWs(t, server, '/ws?channel=a', { perMessageDeflate: { threshold: 0 } });
    assert.equal(ws.socket.extensions, extensions);
    assert.equal((await ws.command({ op: 'publish', channel: 'a', data: 'y'.repeat(5000) })).op, 'ok');
    assert.deepEqual(ws.before.map((m) => m.data.length), [5000]);
    await publish(server, 'a', 'x'.repeat(5000));
    assert.equal((await ws.next()).data.length, 5000);
  }
});
