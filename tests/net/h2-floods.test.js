// What an HTTP/2 connection may not do: it ends with GOAWAY, is counted, and nobody else notices.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import http2 from 'node:http2';
import test from 'node:test';
import { isSecure } from './lib/dial.js';
import { CONTINUATION, DATA, END_HEADERS, END_STREAM, fields, frame, Frames, GET, GOAWAY, HEADERS, PADDED, PING, PRIORITY, RST_STREAM, SETTINGS, u32, WINDOW_UPDATE } from './lib/frames.js';
import { publish, publishMany, request } from './lib/http.js';
import { openHttp2 } from './lib/http2.js';
import { rawConnect } from './lib/raw.js';
import { startServer } from './lib/server.js';
import { until } from './lib/wait.js';

const { NGHTTP2_CANCEL, NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_NO_ERROR } = http2.constants;

const POST = fields([[':method', 'POST'], [':scheme', 'http'], [':authority', 'h'], [':path', '/publish?channel=a']]);
const setting = (id, value) => Buffer.concat([Buffer.from([0, id]), u32(value)]);
const INITIAL_WINDOW_SIZE = 4;
const many = (n, make) => Array.from({ length: n }, (_, i) => make(i)).flat();
const open = (i, block = GET('/events?channel=x'), flags = END_STREAM) => frame(HEADERS, flags | END_HEADERS, 2 * i + 1, block);

// Somebody on another connection, who must not notice.
async function bystander(t, server) {
  const h2 = await openHttp2(t, server);
  const stream = await h2.events({ channel: 'bystander' });
  await stream.ready();
  return async () => {
    const id = await publish(server, 'bystander', 'still here');
    assert.equal((await stream.events.next()).id, id);
    assert.equal((await h2.request('/health')).status, 200);
  };
}

async function floodsCounted(server) {
  return Number(/^crier_refused_total\{reason="http2_flood"\} (\d+)$/m.exec((await request(server, '/metrics')).text)[1]);
}

async function h2Connections(server) {
  return Number(/^crier_http2_connections (\d+)$/m.exec((await request(server, '/metrics')).text)[1]);
}

// What is freed must be gone, under AddressSanitizer too.
const MEASURED = { env: { ASAN_OPTIONS: `${process.env.ASAN_OPTIONS ?? ''}:quarantine_size_mb=1:thread_local_quarantine_size_kb=64` } };
const rssMiB = (server) => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${server.proc.pid}/status`, 'utf8'))[1]) / 1024;

const FLOODS = {
  'rapid resets (CVE-2023-44487)': many(2000, (i) => [open(i), frame(RST_STREAM, 0, 2 * i + 1, u32(8))]),
  'resets that we are made to send: bad requests': many(2000, (i) => [open(i, GET('/health', ['connection', 'close']))]),
  'resets that we are made to send: windows that overflow (CVE-2025-8671)': many(2000, (i) => [open(i), frame(WINDOW_UPDATE, 0, 2 * i + 1, u32(0x7fffffff))]),
  'resets that we are made to send: lengths that are wrong (CVE-2025-8671)': many(2000, (i) => [
    open(i, Buffer.concat([POST, fields([['content-length', '5']])]), 0), frame(DATA, END_STREAM, 2 * i + 1, Buffer.from('six!!!'))]),
  'streams over the limit': many(2000, (i) => [open(i)]),
  PING: many(2000, () => [frame(PING, 0, 0, Buffer.alloc(8))]),
  SETTINGS: many(2000, () => [frame(SETTINGS, 0, 0)]),
  'SETTINGS that move every window': [...many(200, (i) => [open(i)]), ...many(200, (i) => [frame(SETTINGS, 0, 0, setting(INITIAL_WINDOW_SIZE, i))])],
  PRIORITY: many(5000, (i) => [frame(PRIORITY, 0, 2 * (i % 100) + 1, Buffer.from([0, 0, 0, 0, 1]))]),
  WINDOW_UPDATE: many(8000, () => [frame(WINDOW_UPDATE, 0, 0, u32(1))]),
  'empty DATA': [open(0, POST, 0), ...many(2000, () => [frame(DATA, 0, 1)])],
  'DATA of nothing but padding': [open(0, POST, 0), ...many(2000, () => [frame(DATA, PADDED, 1, Buffer.from([2, 0, 0]))])],
  'CONTINUATION (CVE-2024-28182)': [frame(HEADERS, 0, 1, GET('/health')), ...many(2000, () => [frame(CONTINUATION, 0, 1, fields([['x', 'y']]))])],
  'empty CONTINUATION': [frame(HEADERS, 0, 1, GET('/health')), ...many(2000, () => [frame(CONTINUATION, 0, 1)])],
  'CONTINUATION, a few per request': many(200, (i) => [frame(HEADERS, END_STREAM, 2 * i + 1, GET('/health')), frame(CONTINUATION, 0, 2 * i + 1), frame(CONTINUATION, END_HEADERS, 2 * i + 1)]),
};
for (const [what, frames] of Object.entries(FLOODS))
  test(`a flood of ${what} is answered with GOAWAY(ENHANCE_YOUR_CALM)`, async (t) => {
    const server = await startServer(t);
    const unharmed = await bystander(t, server);
    const h2 = await Frames.open(t, server);
    h2.send(...frames);
    assert.equal(await h2.goaway(), NGHTTP2_ENHANCE_YOUR_CALM);
    await unharmed();
    assert.equal(await floodsCounted(server), 1);
    assert.equal(server.events('http2_flood').length, 1);
    await server.connected({ sse: 1 });
  });

// One field of 4,000 bytes into the table, then named 10,000 times by one byte each.
const BOMB = Buffer.concat([GET('/health'), Buffer.from([0x40, 1]), Buffer.from('x'), Buffer.from([0x7f, 0xa1, 0x1e]), Buffer.alloc(4000, 'b'), Buffer.alloc(10_000, 0xbe)]);

test('a header bomb is cut off, the connection goes on', async (t) => {
  const server = await startServer(t);
  const h2 = await Frames.open(t, server);
  h2.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, BOMB));
  assert.equal((await h2.upTo((x) => x.type === RST_STREAM || x.type === GOAWAY)).type, RST_STREAM);
  h2.send(open(1, GET('/health')));
  assert.equal((await h2.upTo((x) => x.id === 3 && x.type === DATA)).payload.toString(), '{"status":"ok"}\n');
});

test('header bombs one after another are a flood, and need no memory', async (t) => {
  const server = await startServer(t, [], MEASURED);
  const unharmed = await bystander(t, server);
  const before = rssMiB(server);
  const h2 = await Frames.open(t, server);
  for (let i = 0, code; code === undefined; i++) {
    assert.ok(i < 5000, 'it goes on and on');
    h2.send(open(i, BOMB));
    const f = await h2.upTo((x) => x.type === RST_STREAM || x.type === GOAWAY);
    if (f.type === GOAWAY) assert.equal((code = f.payload.readUInt32BE(4)), NGHTTP2_ENHANCE_YOUR_CALM);
  }
  assert.ok(rssMiB(server) - before < 24, `from ${before} to ${rssMiB(server)} MiB`);
  await unharmed();
});

test('windows of one byte (CVE-2019-9511) are a flood too', async (t) => {
  const server = await startServer(t);
  const unharmed = await bystander(t, server);
  const h2 = await Frames.open(t, server, setting(INITIAL_WINDOW_SIZE, 1));
  h2.send(open(0, GET('/')));
  for (let taken = 0; ; taken++) {
    const f = await h2.next();
    if (f.type === GOAWAY) {
      assert.equal(f.payload.readUInt32BE(4), NGHTTP2_ENHANCE_YOUR_CALM);
      break;
    }
    if (f.type === DATA) h2.send(frame(WINDOW_UPDATE, 0, 1, u32(1)));
    assert.ok(taken < 5000, 'it goes on and on');
  }
  await unharmed();
  assert.equal(await floodsCounted(server), 1);
});

test('streams without a window are closed as too slow, need no memory and stall no other', async (t) => {
  const server = await startServer(t, ['--outbox-bytes', '256k', '--history', '10'], MEASURED);
  const unharmed = await bystander(t, server);
  const h2 = await Frames.open(t, server, setting(INITIAL_WINDOW_SIZE, 0));
  h2.send(...many(100, (i) => [open(i)]));
  await server.connected({ sse: 101 });
  const before = rssMiB(server);
  // 100 times 20 MB, if it were kept.
  for (let i = 0; i < 40; i++) await publishMany(server, 'x', Array.from({ length: 10 }, () => 'y'.repeat(50_000)));
  assert.ok(rssMiB(server) - before < 64, `from ${before} to ${rssMiB(server)} MiB`);
  h2.send(open(100, GET('/health')), frame(WINDOW_UPDATE, 0, 201, u32(1000)));
  assert.equal((await h2.upTo((x) => x.id === 201 && x.type === DATA)).payload.toString(), '{"status":"ok"}\n');
  await unharmed();
  await server.connected({ sse: 1 });
});

test('answers that nobody takes off the wire wait in bounds, and not for ever', async (t) => {
  const server = await startServer(t, ['--h2-ping', '200ms'], MEASURED);
  const unharmed = await bystander(t, server);
  await publishMany(server, 'x', Array.from({ length: 20 }, () => 'y'.repeat(50_000)));
  const before = rssMiB(server);
  const h2 = await Frames.open(t, server, setting(INITIAL_WINDOW_SIZE, 0x7fffffff));
  h2.raw.socket.pause();
  h2.send(frame(WINDOW_UPDATE, 0, 0, u32(0x7fff0000)), ...many(200, (i) => [open(i, GET('/api/channels/x/history'))]));
  // 200 times 1 MB, if they were all made.
  await until(async () => (await h2Connections(server)) >= 2, 'the connection is there');
  for (let i = 0; i < 20; i++) await unharmed();
  assert.ok(rssMiB(server) - before < 64, `from ${before} to ${rssMiB(server)} MiB`);
  await until(async () => (await h2Connections(server)) === 1, 'it is given up, for its PING is not answered either');
});

// --- too slow ---

test('a preface that does not come is not waited for', async (t) => {
  const server = await startServer(t, ['--request-timeout', '400ms']);
  for (const part of ['', 'PRI * HTTP/2.0\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r']) {
    const raw = await rawConnect(t, server, { alpn: ['h2'] });
    if (part) raw.send(part);
    const said = await raw.all();
    assert.doesNotMatch(said, /HTTP\/1/);
    raw.close();
  }
  await until(async () => (await h2Connections(server)) === 0, 'nothing is left');
});

test('over TLS, what is no preface ends with GOAWAY; in clear without an answer', async (t) => {
  const server = await startServer(t);
  const raw = await rawConnect(t, server, { alpn: ['h2'] });
  raw.send('INVALID CONNECTION PREFACE\r\n\r\n');
  const said = await raw.all();
  if (isSecure(server.port)) assert.equal(Buffer.from(said, 'latin1').subarray(-17, -13).toString('hex'), '00000807', 'a GOAWAY frame');
  else assert.equal(said, '');
});

test('a header that is never finished: reset, and the connection ends', async (t) => {
  const server = await startServer(t, ['--request-timeout', '300ms']);
  const h2 = await Frames.open(t, server);
  h2.send(frame(HEADERS, END_STREAM, 1, GET('/health')));
  assert.equal((await h2.upTo((x) => x.type === RST_STREAM)).payload.readUInt32BE(), NGHTTP2_CANCEL);
  assert.equal(await h2.goaway(), NGHTTP2_NO_ERROR);
});

test('a frame that is never finished ends the connection', async (t) => {
  const server = await startServer(t, ['--request-timeout', '300ms']);
  const h2 = await Frames.open(t, server);
  h2.send(frame(PING, 0, 0, Buffer.alloc(8)).subarray(0, 12));
  assert.equal(await h2.goaway(), NGHTTP2_NO_ERROR);
});

test('who says FIN, or resets the connection, is gone with all its streams', async (t) => {
  const server = await startServer(t);
  for (const leave of [(s) => s.end(), (s) => s.resetAndDestroy()]) {
    const h2 = await Frames.open(t, server);
    h2.send(...many(20, (i) => [open(i)]));
    await server.connected({ sse: 20 });
    leave(h2.raw.socket);
    await server.connected({ sse: 0 });
    await until(async () => (await h2Connections(server)) === 0, 'it is forgotten');
  }
});
