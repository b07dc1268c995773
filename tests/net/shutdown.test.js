// SIGTERM: everyone is told, nothing is cut in the middle, exit code 0.

import assert from 'node:assert/strict';
import test from 'node:test';
import { get, publish, publishMany } from './lib/http.js';
import { poll, pollAnswer } from './lib/poll.js';
import { rawConnect } from './lib/raw.js';
import { startServer } from './lib/server.js';
import { openSse } from './lib/sse.js';
import { guard, until } from './lib/wait.js';
import { openWs } from './lib/wsclient.js';
import { CARRIERS, openCarried } from './lib/wscarriers.js';
import { CLOSE, frame, openRawWs, TEXT, upgradeRequest } from './lib/wsraw.js';

test('an idle server ends at once with 0', async (t) => {
  const server = await startServer(t, ['--drain', '30s']);
  assert.deepEqual(await server.terminate(), { code: 0, signal: null });
});

test('SIGINT ends it as well', async (t) => {
  const server = await startServer(t);
  server.proc.kill('SIGINT');
  assert.deepEqual(await guard(server.exit, 'the end'), { code: 0, signal: null });
});

test('WebSockets are closed with 1001', async (t) => {
  const server = await startServer(t, ['--drain', '2s', '--workers', '2']);
  const clients = [];
  for (let i = 0; i < 6; i++) clients.push(await openWs(t, server, '/ws?channel=a'));
  const room = await openWs(t, server, '/chat/lobby');
  const raw = await openWs(t, server, '/ws?channel=a&format=raw');
  server.proc.kill('SIGTERM');
  for (const ws of [...clients, room, raw]) assert.equal((await ws.closed).code, 1001);
  assert.equal((await guard(server.exit, 'the end')).code, 0);
});

test('event streams are ended with a jittered retry: and crier.close 1001', async (t) => {
  const server = await startServer(t, ['--drain', '2s', '--workers', '2']);
  const streams = [];
  for (let i = 0; i < 8; i++) streams.push(await openSse(t, server, { channel: 'a' }));
  for (const stream of streams) await stream.ready();
  const id = await publish(server, 'a', 'last');
  for (const stream of streams) await stream.events.next();
  const before = streams.map((stream) => stream.body.length);
  server.proc.kill('SIGTERM');
  const retries = new Set();
  for (const [i, stream] of streams.entries()) {
    await guard(stream.raw.ended, 'the end of the stream');
    stream.read();
    const m = /^(?::\n\n)*retry: (\d+)\n\n?event: crier\.close\ndata: (\{.*\})\n\n$/.exec(stream.body.slice(before[i]));
    assert.ok(m, JSON.stringify(stream.body.slice(before[i])));
    retries.add(m[1]);
    const close = JSON.parse(m[2]);
    assert.equal(close.code, 1001);
    assert.equal(close.cursor, id);
    assert.equal(typeof close.reason, 'string');
    if (stream.chunked) assert.ok(stream.raw.received.toString('latin1').endsWith('0\r\n\r\n'), 'the last chunk came');
  }
  assert.ok(retries.size > 1, `jittered: ${[...retries]}`);
  assert.equal((await guard(server.exit, 'the end')).code, 0);
});

test('waiting polls are answered, with a cursor', async (t) => {
  const server = await startServer(t, ['--drain', '2s', '--workers', '2']);
  const { cursor } = await poll(server, { channel: 'a' });
  const waiting = Array.from({ length: 8 }, () => pollAnswer(server, { channel: 'a', since: cursor, timeout: 55 }));
  await server.connected({ poll: 8 });
  server.proc.kill('SIGTERM');
  for (const answer of await Promise.all(waiting)) {
    assert.equal(answer.status, 200);
    assert.deepEqual(answer.json(), { cursor, messages: [], gaps: [] });
  }
  assert.equal((await guard(server.exit, 'the end')).code, 0);
});

test('what was published before comes before the goodbye', async (t) => {
  const server = await startServer(t, ['--drain', '5s', '--history', '2000']);
  const stream = await openSse(t, server, { channel: 'a' });
  await stream.ready();
  const ws = await openWs(t, server, '/ws?channel=a');
  const ids = await publishMany(server, 'a', Array.from({ length: 500 }, (_, i) => `${i}`.padEnd(500)));
  server.proc.kill('SIGTERM');
  const events = await stream.events.upTo((e) => e.event === 'crier.close', 'crier.close');
  assert.deepEqual(events.slice(0, -1).map((e) => e.id), ids);
  await ws.closed;
  assert.deepEqual(ws.frames.items.map((f) => JSON.parse(f).id), ids);
});

test('a peer that never answers the close does not hold the server beyond --drain', async (t) => {
  const server = await startServer(t, ['--drain', '1s']);
  const ws = await openRawWs(t, server, '/ws?channel=a');
  server.proc.kill('SIGTERM');
  let f;
  do f = await ws.frame();
  while (f.opcode !== CLOSE);
  assert.equal(f.payload.readUInt16BE(), 1001);
  assert.equal((await guard(server.exit, 'the end')).code, 0);
});

test('a peer that never answers the close has a deadline of its own', async (t) => {
  const server = await startServer(t, ['--drain', '60s']);
  const all = [];
  for (const carrier of CARRIERS) all.push(await openCarried(t, server, carrier, '/ws?channel=a'));
  server.proc.kill('SIGTERM');
  for (const ws of all) {
    let f;
    do f = await ws.frame();
    while (f.opcode !== CLOSE);
    ws.send(frame(TEXT, '{"op":"ping"}')); // is no answer to it
  }
  assert.equal((await guard(server.exit, 'the end')).code, 0); // the guard is shorter than the drain
});

test('a peer that does not even read does not either', async (t) => {
  const server = await startServer(t, ['--drain', '1s', '--history', '2000', '--outbox-bytes', '64m', '--outbox-messages', '100000']);
  const stream = await openSse(t, server, { channel: 'a' });
  await stream.ready();
  stream.raw.socket.pause();
  for (let i = 0; i < 30; i++) await publishMany(server, 'a', Array.from({ length: 16 }, () => 'x'.repeat(60000)));
  assert.equal((await server.terminate()).code, 0);
});

test('while draining: not ready, no new streams, sockets or polls', async (t) => {
  const server = await startServer(t, ['--drain', '10s']);
  // A peer that does not answer the close keeps the drain going; connections made before are used.
  const holder = await openRawWs(t, server, '/ws?channel=a');
  const open = [];
  for (let i = 0; i < 4; i++) {
    const raw = await rawConnect(t, server);
    raw.send('GET /health HTTP/1.1\r\nHost: h\r\n\r\n');
    assert.equal((await raw.answer()).status, 200);
    open.push(raw);
  }
  server.proc.kill('SIGTERM');
  let f;
  do f = await holder.frame();
  while (f.opcode !== CLOSE);
  const usable = [];
  for (const raw of open) if (!raw.closed) usable.push(raw);
  const ask = async (bytes) => {
    const raw = usable.shift();
    if (!raw) return null;
    raw.send(bytes);
    return raw.answer().catch(() => null); // an idle connection may be closed by a drain
  };
  const ready = await ask('GET /ready HTTP/1.1\r\nHost: h\r\n\r\n');
  if (ready) {
    assert.equal(ready.status, 503);
    assert.deepEqual(ready.json(), { status: 'draining' });
  }
  const events = await ask('GET /events?channel=a HTTP/1.1\r\nHost: h\r\n\r\n');
  if (events) {
    assert.equal(events.status, 200);
    assert.match(events.body, /^retry: \d+\n+$/);
  }
  for (const bytes of [upgradeRequest(server, '/ws?channel=a'), 'GET /poll?channel=a HTTP/1.1\r\nHost: h\r\n\r\n']) {
    const refused = await ask(bytes);
    if (!refused) continue;
    assert.equal(refused.status, 503);
    assert.equal(refused.json().code, 'shutting_down');
    assert.ok(refused.headers['retry-after']);
  }
  holder.raw.close();
  assert.equal((await guard(server.exit, 'the end')).code, 0);
});

test('the port is free at once for the next run', async (t) => {
  const first = await startServer(t);
  const stream = await openSse(t, first, { channel: 'a' });
  await stream.ready();
  await first.stop();
  const second = await startServer(t, [], { port: first.port });
  assert.equal((await get(second, '/health')).status, 200);
});

test('a server that was killed leaves no client waiting', async (t) => {
  const server = await startServer(t, ['--workers', '2']);
  const stream = await openSse(t, server, { channel: 'a' });
  await stream.ready();
  const ws = await openWs(t, server, '/ws?channel=a');
  await server.crash();
  await guard(stream.raw.ended, 'the end of the stream');
  assert.equal((await ws.closed).code, 1006);
  const second = await startServer(t, [], { port: server.port });
  await until(async () => (await get(second, '/ready')).status === 200, 'the next one is ready');
});
