// WebSockets over HTTP/2 (RFC 8441): what is not the same as on HTTP/1.1. (The rest: CRIER_TEST_HTTP2=1.)

import assert from 'node:assert/strict';
import test from 'node:test';
import { cancel, openHttp2 } from './lib/http2.js';
import { startServer } from './lib/server.js';
import { guard } from './lib/wait.js';

test('the server offers extended CONNECT', async (t) => {
  const server = await startServer(t, ['--h2-max-streams', '77', '--h2-window', '128k']);
  const h2 = await openHttp2(t, server);
  const { enableConnectProtocol, maxConcurrentStreams, initialWindowSize, maxHeaderListSize } = h2.session.remoteSettings;
  assert.deepEqual([enableConnectProtocol, maxConcurrentStreams, initialWindowSize, maxHeaderListSize], [true, 77, 131072, 16384]);
});

test('a WebSocket: commands, messages, large frames, close', async (t) => {
  const server = await startServer(t);
  const h2 = await openHttp2(t, server);
  const ws = await h2.webSocket('/ws?channel=a', { headers: { 'sec-websocket-protocol': 'other, crier.v1' } });
  assert.equal(ws.head.headers['sec-websocket-protocol'], 'crier.v1');
  assert.equal(ws.head.headers['sec-websocket-accept'], undefined);
  assert.equal((await ws.next()).op, 'ready');
  const data = 'y'.repeat(60_000);
  const answer = await ws.command({ op: 'publish', channel: 'a', data });
  assert.equal(answer.op, 'ok');
  assert.equal((ws.before[0] ?? (await ws.next())).data, data);
  ws.socket.ping('are you there');
  await guard(new Promise((resolve) => ws.socket.once('pong', resolve)), 'a pong');
  assert.equal((await server.stats()).connections.ws, 1);
  assert.deepEqual(await ws.close(), { code: 1000, reason: '' });
  await server.connected({ ws: 0 });
  assert.equal((await h2.request('/health')).status, 200);
});

test('a WebSocket: more commands at once than may wait for the bus are all answered', async (t) => {
  const server = await startServer(t, ['--workers', '2', '--h2-window', '16k']);
  const h2 = await openHttp2(t, server);
  const ws = await h2.webSocket('/ws');
  await ws.next();
  for (let i = 0; i < 1000; i++) ws.send({ op: 'publish', channel: 'a', data: `message ${i}`, ref: i });
  const answers = await ws.take(1000);
  assert.deepEqual(answers.map((a) => a.ref), Array.from({ length: 1000 }, (_, i) => i));
});

test('a WebSocket and an EventSource in a chat room', async (t) => {
  const server = await startServer(t);
  const h2 = await openHttp2(t, server);
  const ws = await h2.webSocket('/chat/lobby');
  assert.match((await ws.next()).message, /Welcome/);
  const sse = await h2.events({}, { path: '/chat/lobby' });
  await sse.events.upTo((e) => e.data.includes('Welcome'), 'the welcome');
  assert.match((await ws.next()).message, /joined/);
  ws.send({ content: 'hi' });
  await sse.events.upTo((e) => e.data.includes('"content":"hi"'), 'what was said');
  sse.close();
  const frames = await ws.upTo((m) => /left/.test(m.message ?? ''), 'that it left');
  assert.ok(frames.some((m) => m.content === 'hi'));
});

test('a WebSocket: what breaks the protocol is closed with 1002, and END_STREAM follows', async (t) => {
  const server = await startServer(t);
  const h2 = await openHttp2(t, server);
  const stream = h2.connectWs('/ws');
  assert.equal((await stream.head).status, 200);
  const chunks = [];
  stream.on('data', (c) => chunks.push(c));
  const end = new Promise((resolve) => stream.once('end', resolve));
  stream.write(Buffer.from([0x81, 0x01, 0x61])); // not masked
  await guard(end, 'END_STREAM');
  const all = Buffer.concat(chunks);
  const at = all.indexOf(Buffer.from([0x88]), 2 + all[1]);
  assert.equal(all.readUInt16BE(all.lastIndexOf(0x88) + 2), 1002, `${at}`);
  await server.connected({ ws: 0 });
});

test('a WebSocket that is reset, or ends without a Close, is gone', async (t) => {
  const server = await startServer(t);
  const h2 = await openHttp2(t, server);
  const reset = h2.connectWs('/ws');
  await reset.head;
  const ended = h2.connectWs('/ws');
  await ended.head;
  ended.resume();
  await server.connected({ ws: 2 });
  cancel(reset);
  await server.connected({ ws: 1 });
  ended.end();
  await server.connected({ ws: 0 });
  await guard(ended.ended, 'the end of the stream');
});

test('CONNECT: another protocol, none, another version, another path are refused', async (t) => {
  const server = await startServer(t);
  const h2 = await openHttp2(t, server);
  const status = async (path, options) => (await h2.connectWs(path, options).head).status;
  assert.equal(await status('/ws', { protocol: 'connect-udp' }), 501);
  assert.equal(await status('/ws', { headers: { 'sec-websocket-version': '12' } }), 426);
  assert.equal(await status('/ws?channel=%00'), 400);
  assert.equal(await status('/health'), 400);
  assert.equal(await status('/events?channel=a'), 400);
  assert.equal(await status('/nothing'), 404);
  const plain = h2.stream({ ':method': 'CONNECT' }, { endStream: false });
  assert.equal((await plain.head).status, 501);
  await server.connected({ ws: 0, sse: 0 });
});

test('pings over HTTP/2: a WebSocket that does not answer is dropped, one that does stays', async (t) => {
  const server = await startServer(t, ['--ws-ping', '200ms', '--ws-pong', '300ms']);
  const h2 = await openHttp2(t, server);
  const good = await h2.webSocket('/ws');
  const dead = h2.connectWs('/ws');
  await dead.head;
  dead.resume();
  await guard(dead.ended, 'the silent one to be dropped');
  for (let i = 0; i < 3; i++) await good.pings.next();
  assert.equal((await good.command({ op: 'ping' })).op, 'pong');
});
