// Clients that do not read: closed with a reason and a cursor, and nothing lost.

import assert from 'node:assert/strict';
import test from 'node:test';
import { publishMany } from './lib/http.js';
import { judge } from './lib/checker.js';
import { startServer } from './lib/server.js';
import { openSse } from './lib/sse.js';
import { ALL_TRANSPORTS, CODED_TRANSPORTS, dataThrough, listen } from './lib/transports.js';
import { openWs } from './lib/wsclient.js';

const FLAGS = ['--history', '2000', '--outbox-bytes', '256k', '--outbox-messages', '100'];
const PER_BATCH = 3; // less than the outbox: who reads is not slow
const BATCHES = 60;

// More than two kernel buffers and the outbox together can hold. `after` each batch.
async function flood(server, channel, after = async () => {}) {
  const ids = [];
  for (let i = 0; i < BATCHES; i++) {
    const payloads = Array.from({ length: PER_BATCH }, (_, k) => `${i}.${k}.`.padEnd(60000, 'x'));
    ids.push(...(await publishMany(server, channel, payloads)));
    await after(payloads);
  }
  return ids;
}

async function rest(t, server, cursor) {
  const listener = await listen(t, server, 'poll', ['a'], cursor);
  const [fence] = await publishMany(server, 'a', ['fence']);
  const out = [];
  for (;;) {
    const item = await listener.next();
    assert.equal(item.gap, undefined, JSON.stringify(item.gap));
    if (item.id === fence) return out;
    out.push(item.id);
  }
}

test('an EventSource that does not read gets crier.close 4001 with a cursor and resumes by it', async (t) => {
  const server = await startServer(t, FLAGS);
  const stream = await openSse(t, server, { channel: 'a' });
  await stream.ready();
  stream.raw.socket.pause();
  const ids = await flood(server, 'a');
  stream.raw.socket.resume();
  const events = await stream.events.upTo((e) => e.event === 'crier.close', 'crier.close');
  const close = JSON.parse(events.pop().data);
  assert.deepEqual([close.code, close.reason], [4001, 'too slow']);
  assert.deepEqual(Object.keys(close), ['code', 'reason', 'cursor']);
  await stream.raw.ended;
  const received = events.map((e) => e.id);
  assert.ok(received.length < ids.length, 'it was cut');
  assert.equal(close.cursor, received.at(-1), 'the cursor is where it stopped');
  assert.deepEqual(judge(ids, [...received, ...(await rest(t, server, close.cursor))]), []);
  await server.connected({ sse: 0 });
});

test('a WebSocket that does not read is closed with 4001, the reason is its cursor', async (t) => {
  const server = await startServer(t, FLAGS);
  const ws = await openWs(t, server, '/ws?channel=a');
  ws.socket.pause();
  const ids = await flood(server, 'a');
  ws.socket.resume();
  const { code, reason } = await ws.closed;
  assert.equal(code, 4001);
  const received = ws.frames.items.map((f) => JSON.parse(f)).filter((m) => m.op === 'message').map((m) => m.id);
  assert.ok(received.length < ids.length, 'it was cut');
  assert.equal(reason, received.at(-1));
  assert.deepEqual(judge(ids, [...received, ...(await rest(t, server, reason))]), []);
  await server.connected({ ws: 0 });
});

test('a slow client does not hold up the others', async (t) => {
  const server = await startServer(t, ['--history', '2000', '--outbox-bytes', '4m', '--outbox-messages', '1000', '--workers', '2']);
  const slow = [await openSse(t, server, { channel: 'a' }), await openSse(t, server, { channel: 'a' })];
  for (const stream of slow) await stream.ready();
  for (const stream of slow) stream.raw.socket.pause();
  const healthy = [];
  for (const transport of [...ALL_TRANSPORTS, ...CODED_TRANSPORTS]) healthy.push(await listen(t, server, transport, ['a']));
  // Every batch reaches them all while the slow ones are stuck.
  await flood(server, 'a', async (payloads) => {
    const seen = await Promise.all(healthy.map((listener) => dataThrough(listener, payloads.at(-1))));
    for (const data of seen) assert.deepEqual(data, payloads);
  });
});

test('a client that never reads again is dropped in the end', async (t) => {
  const server = await startServer(t, [...FLAGS, '--ws-ping', '300ms', '--ws-pong', '1s', '--sse-keepalive', '300ms']);
  const stream = await openSse(t, server, { channel: 'a' });
  await stream.ready();
  const ws = await openWs(t, server, '/ws?channel=a');
  stream.raw.socket.pause();
  ws.socket.pause();
  await flood(server, 'a');
  await server.connected({ sse: 0, ws: 0 });
});

test('a burst as large as a request may be makes no reading client slow', async (t) => {
  const server = await startServer(t, ['--history', '2000']);
  const readers = [];
  for (const transport of [...ALL_TRANSPORTS, ...CODED_TRANSPORTS]) readers.push(await listen(t, server, transport, ['a']));
  const ids = await publishMany(server, 'a', Array.from({ length: 1000 }, (_, i) => `${i}`.padEnd(900)));
  for (const reader of readers) {
    const got = [];
    for (let i = 0; i < 1000; i++) got.push((await reader.next()).id);
    assert.deepEqual(judge(ids, got), [], reader.transport);
  }
});

test('a client that reads slowly, but reads, within the limits, loses nothing', async (t) => {
  const server = await startServer(t, ['--history', '2000']);
  const stream = await openSse(t, server, { channel: 'a' });
  await stream.ready();
  stream.raw.socket.pause();
  const ids = await publishMany(server, 'a', Array.from({ length: 10 }, () => 'x'.repeat(60000)));
  stream.raw.socket.resume();
  assert.deepEqual((await stream.events.take(10)).map((e) => e.id), ids);
});
