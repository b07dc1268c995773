// Bytes that are no text: however they are published, and over whatever they come, they are the same.

import assert from 'node:assert/strict';
import test from 'node:test';
import { constants, deflateRawSync } from 'node:zlib';
import { history, postJson, publish } from './lib/http.js';
import { openSse } from './lib/sse.js';
import { startServer } from './lib/server.js';
import { ALL_TRANSPORTS, listen } from './lib/transports.js';
import { openWs } from './lib/wsclient.js';
import { CARRIERS, openCarried } from './lib/wscarriers.js';
import { BINARY, CONTINUE, frame, TEXT } from './lib/wsraw.js';

const RAW = '/ws?format=raw&channel=a';
const BYTES = Buffer.from([0, 255, 254, 13, 10, 13, 200, 128, 0x7b, 0x7d, 0, 10]);
const ASCII = Buffer.from('{"looks":"like JSON"}');
const PAYLOADS = [BYTES, Buffer.alloc(0), ASCII, Buffer.alloc(65536, 0xc3)];
const deflate = (bytes) => deflateRawSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);

async function byApi(server, bytes) {
  const answer = await postJson(server, '/api/publish', { channel: 'a', data: bytes.toString('base64'), encoding: 'base64' });
  assert.equal(answer.status, 200, answer.text);
}

// How bytes get in.
const WAYS = {
  'POST /publish': (t, server) => (bytes) => publish(server, 'a', bytes, { type: 'application/octet-stream' }),
  'POST /api/publish': (t, server) => (bytes) => byApi(server, bytes),
  'a JSON command': async (t, server) => {
    const ws = await openWs(t, server);
    return async (bytes) => assert.equal((await ws.command({ op: 'publish', channel: 'a', data: bytes.toString('base64'), encoding: 'base64' })).op, 'ok');
  },
};
for (const carrier of CARRIERS) {
  const publisher = async (t, server) => openCarried(t, server, carrier, RAW, { 'Sec-WebSocket-Extensions': 'permessage-deflate' });
  WAYS[`a binary frame over ${carrier}`] = async (t, server) => {
    const ws = await publisher(t, server);
    return (bytes) => ws.send(frame(BINARY, bytes));
  };
  WAYS[`a compressed frame over ${carrier}`] = async (t, server) => {
    const ws = await publisher(t, server);
    return (bytes) => ws.send(frame(BINARY, deflate(bytes), { rsv: 4 }));
  };
  WAYS[`fragments over ${carrier}`] = async (t, server) => {
    const ws = await publisher(t, server);
    return (bytes) => ws.send(frame(BINARY, bytes.subarray(0, 3), { fin: false }), frame(CONTINUE, bytes.subarray(3)));
  };
}

for (const [way, make] of Object.entries(WAYS)) {
  test(`${way}: raw WebSockets hear binary frames, everyone else base64`, async (t) => {
    const server = await startServer(t, ['--workers', '2']);
    const raw = [];
    for (const carrier of CARRIERS) raw.push(await openCarried(t, server, carrier, RAW));
    const enveloped = [];
    for (const transport of ALL_TRANSPORTS) enveloped.push(await listen(t, server, transport, 'a'));
    const sse = await openSse(t, server, { channel: 'a' });
    await sse.ready();
    const say = await make(t, server);
    for (const bytes of PAYLOADS) {
      await say(bytes);
      for (const ws of raw) {
        const f = await ws.frame();
        assert.equal(f.opcode, BINARY);
        assert.ok(f.payload.equals(bytes), `${f.payload.length} bytes`);
      }
      for (const listener of enveloped) {
        const { data, encoding } = await listener.next();
        assert.deepEqual([data, encoding], [bytes.toString('base64'), 'base64'], listener.transport);
      }
      assert.equal((await sse.events.next()).data, bytes.toString('base64'));
    }
    const { messages } = await history(server, 'a');
    assert.deepEqual(messages.map((m) => [m.data, m.encoding]), PAYLOADS.map((bytes) => [bytes.toString('base64'), 'base64']));
    // The same to who comes back for it.
    const late = await openCarried(t, server, 'HTTP/1.1', `${RAW}&history=4`);
    for (const bytes of PAYLOADS) assert.ok((await late.frame()).payload.equals(bytes));
  });
}

test('text beside it stays text', async (t) => {
  const server = await startServer(t);
  const ws = await openCarried(t, server, 'HTTP/1.1', RAW);
  ws.send(frame(TEXT, 'text'), frame(BINARY, 'text'), frame(TEXT, '{"a":1}'), frame(BINARY, '{"a":1}'));
  const opcodes = [];
  for (let i = 0; i < 4; i++) opcodes.push((await ws.frame()).opcode);
  assert.deepEqual(opcodes, [TEXT, BINARY, TEXT, BINARY]);
  const { messages } = await history(server, 'a');
  assert.deepEqual(messages.map((m) => m.data), ['text', 'dGV4dA==', { a: 1 }, 'eyJhIjoxfQ==']);
});
