// WebSocket messages as they are sent compressed: once, the same frame for everyone who agreed.

import assert from 'node:assert/strict';
import { createCipheriv } from 'node:crypto';
import test from 'node:test';
import zlib from 'node:zlib';
import { publish, publishMany } from './lib/http.js';
import { startServer } from './lib/server.js';
import { openWs } from './lib/wsclient.js';
import { CARRIERS, openCarried } from './lib/wscarriers.js';
import { BINARY, TEXT } from './lib/wsraw.js';

const RSV1 = 4;
const offer = (extra = '') => ({ 'Sec-WebSocket-Extensions': `permessage-deflate${extra}` });
const JSON_2K = JSON.stringify(Array.from({ length: 40 }, (_, i) => ({ symbol: 'ABC', price: 100 + i, at: '2026-11-21T10:00:00Z' })));
const NOISE = createCipheriv('aes-128-ctr', 'deterministic...', Buffer.alloc(16)).update(Buffer.alloc(3000));

function inflate(f, windowBits = 15) {
  if (!(f.rsv & RSV1)) return f.payload;
  return zlib.inflateRawSync(Buffer.concat([f.payload, Buffer.from([0, 0, 255, 255])]), { finishFlush: zlib.constants.Z_SYNC_FLUSH, windowBits });
}

for (const carrier of CARRIERS) {
  test(`${carrier}: the same frame for all, inflated the same as without`, async (t) => {
    const server = await startServer(t, ['--pack-threshold', '100']);
    for (const format of ['raw', 'json']) {
      const path = `/ws?channel=a&format=${format}`;
      const plain = await openCarried(t, server, carrier, path);
      const packed = [await openCarried(t, server, carrier, path, offer()), await openCarried(t, server, carrier, path, offer('; client_max_window_bits'))];
      const narrow = await openCarried(t, server, carrier, path, offer('; server_max_window_bits=9'));
      for (const [body, type, packs] of [['short', 'text/plain', false], [JSON_2K, 'application/json', true], ['ü€😀'.repeat(5000), 'text/plain', true], [NOISE, 'application/octet-stream', format === 'json']]) {
        await publish(server, 'a', body, { type });
        const want = await plain.frame();
        assert.equal(want.rsv, 0);
        assert.equal(want.opcode, format === 'raw' && type.endsWith('stream') ? BINARY : TEXT);
        const [one, two] = [await packed[0].frame(), await packed[1].frame()];
        assert.deepEqual(one, two, 'packed once');
        for (const [f, bits] of [[one, 15], [await narrow.frame(), 9]]) {
          assert.deepEqual([f.opcode, f.rsv], [want.opcode, packs ? RSV1 : 0]);
          assert.ok(inflate(f, bits).equals(want.payload));
          assert.equal(f.payload.length < want.payload.length, packs);
        }
      }
    }
  });

  test(`${carrier}: notices, answers and the Close are not compressed, history is`, async (t) => {
    const server = await startServer(t);
    await publishMany(server, 'a', [JSON_2K, JSON_2K]);
    const ws = await openCarried(t, server, carrier, '/ws?channel=a&history=2', offer());
    for (let i = 0; i < 2; i++) {
      const f = await ws.frame();
      assert.equal(f.rsv, RSV1);
      assert.equal(JSON.parse(inflate(f)).data, JSON_2K);
    }
    server.proc.kill('SIGTERM');
    assert.equal((await ws.closed()).code, 1001);
  });

  test(`${carrier}: what is too small or of a plain namespace is not compressed`, async (t) => {
    const server = await startServer(t, ['--pack-threshold', '500', '--plain-namespaces', 'bank']);
    const ws = await openCarried(t, server, carrier, '/ws?channel=a&channel=bank:a', offer());
    for (const [channel, size, rsv] of [['a', 499, 0], ['a', 500, RSV1], ['bank:a', 500, 0]]) {
      await publish(server, channel, 'x'.repeat(size));
      assert.equal((await ws.frame()).rsv, rsv, `${channel} ${size}`);
    }
  });
}

test('npm ws reads what it is sent, with any window it asks for', async (t) => {
  const server = await startServer(t, ['--workers', '2', '--pack-threshold', '0']);
  const plain = await openWs(t, server, '/ws?channel=a');
  const clients = [];
  for (const perMessageDeflate of [true, { serverMaxWindowBits: 9 }, { serverMaxWindowBits: 12 }, { serverNoContextTakeover: true }])
    clients.push(await openWs(t, server, '/ws?channel=a', { perMessageDeflate }));
  for (const client of clients) assert.match(client.socket.extensions, /permessage-deflate/);
  await publishMany(server, 'a', Array.from({ length: 100 }, (_, i) => `${i} `.repeat(i * 20)));
  const want = await plain.take(100);
  for (const client of clients) assert.deepEqual(await client.take(100), want);
  const [a, b] = [plain, clients[0]].map((c) => c.socket._socket.bytesRead);
  assert.ok(b < a / 4, `${b} of ${a} bytes`);
});

test('chat rooms are compressed too', async (t) => {
  const server = await startServer(t);
  const [ann, bob] = [await openWs(t, server, '/chat/a', { perMessageDeflate: true }), await openWs(t, server, '/chat/a')];
  const before = ann.socket._socket.bytesRead;
  bob.send({ content: 'lorem ipsum '.repeat(500) });
  const said = (m) => m.content?.startsWith('lorem');
  const [one, two] = [(await ann.upTo(said)).pop(), (await bob.upTo(said)).pop()];
  assert.deepEqual(one, two);
  assert.ok(ann.socket._socket.bytesRead - before < 3000);
});
