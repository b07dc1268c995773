// HTTP/2 on the plain port by prior knowledge: the same handlers, many streams on one connection.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import http2 from 'node:http2';
import test from 'node:test';
import { publish, publishMany, request } from './lib/http.js';
import { openHttp2 } from './lib/http2.js';
import { startServer } from './lib/server.js';
import { rawConnect } from './lib/raw.js';
import { guard, until } from './lib/wait.js';

const { NGHTTP2_CANCEL, NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_NO_ERROR, NGHTTP2_PROTOCOL_ERROR, NGHTTP2_STREAM_CLOSED } = http2.constants;

// --- frames by hand ---

const DATA = 0, HEADERS = 1, PRIORITY = 2, RST_STREAM = 3, SETTINGS = 4, PING = 6, GOAWAY = 7, WINDOW_UPDATE = 8, CONTINUATION = 9;
const END_STREAM = 1, END_HEADERS = 4, PADDED = 8, ACK = 1;
const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';

function frame(type, flags, id, payload = Buffer.alloc(0)) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, payload]);
}

const u32 = (n) => {
  const b = Buffer.alloc(4);
  b.writeUInt32BE(n);
  return b;
};

// Literal fields without indexing, no Huffman (RFC 7541 6.2.2).
function fields(list) {
  const text = (s) => {
    const b = Buffer.from(s, 'latin1');
    assert.ok(b.length < 127);
    return Buffer.concat([Buffer.from([b.length]), b]);
  };
  return Buffer.concat(list.map(([n, v]) => Buffer.concat([Buffer.from([0]), text(n), text(v)])));
}
const GET = (path, ...more) => fields([[':method', 'GET'], [':scheme', 'http'], [':authority', 'h'], [':path', path], ...more]);

class Frames {
  static async open(t, server, settings = Buffer.alloc(0)) {
    const self = new Frames();
    self.raw = await rawConnect(t, server, { alpn: ['h2'] });
    self.raw.send(Buffer.concat([Buffer.from(PREFACE), frame(SETTINGS, 0, 0, settings)]));
    return self;
  }
  send(...all) {
    this.raw.send(Buffer.concat(all));
    return this;
  }
  async next() {
    const head = await this.raw.bytes(9);
    const n = head.readUIntBE(0, 3);
    const payload = n ? Buffer.from(await this.raw.bytes(n)) : Buffer.alloc(0);
    return { type: head[3], flags: head[4], id: head.readUInt32BE(5), payload };
  }
  async upTo(fits) {
    for (;;) {
      const f = await this.next();
      if (fits(f)) return f;
    }
  }
  // The code of the GOAWAY, after which the server must end the connection.
  async goaway() {
    const f = await this.upTo((x) => x.type === GOAWAY);
    await this.raw.all();
    return f.payload.readUInt32BE(4);
  }
}

function tool(command, args) {
  const env = { ...process.env, CURL_CA_BUNDLE: process.env.NODE_EXTRA_CA_CERTS };
  return new Promise((resolve) => execFile(command, args, { timeout: 20000, maxBuffer: 1 << 24, env }, (error, stdout, stderr) => resolve({ code: error ? error.code : 0, stdout, stderr })));
}

// --- requests ---

test('the API, pages, errors: the same answers as on HTTP/1.1', async (t) => {
  const server = await startServer(t);
  const h2 = await openHttp2(t, server);
  await publish(server, 'a', 'first');
  const json = { 'content-type': 'application/json' };
  const asked = [
    ['/health'], ['/ready'], ['/'], ['/nothing'], ['/api/channels'], ['/api/channels/a'], ['/api/channels/a/history'],
    ['/health', { method: 'POST', body: 'x' }], ['/events'], ['/poll?channel=%00'], ['/poll?channel=a&limit=x'],
    ['/publish?channel=a', { method: 'POST', body: '{', headers: json }], ['/ws'], ['/chat/lobby'],
    ['/api/publish', { method: 'POST', body: '[]x', headers: json }], ['/health', { method: 'OPTIONS' }],
  ];
  for (const [path, options] of asked) {
    const one = await request(server, path, options);
    const two = await h2.request(path, options);
    assert.equal(two.status, one.status, path);
    assert.equal(two.text, one.text, path);
    for (const name of ['content-type', 'content-length', 'cache-control', 'vary', 'allow', 'x-content-type-options'])
      assert.equal(two.headers[name], one.headers[name], `${path}: ${name}`);
    for (const name of ['connection', 'upgrade', 'transfer-encoding', 'keep-alive']) assert.equal(two.headers[name], undefined);
  }
});

test('HEAD says how long the body would be and sends none', async (t) => {
  const server = await startServer(t);
  const h2 = await openHttp2(t, server);
  const get = await h2.request('/');
  const head = await h2.request('/', { method: 'HEAD' });
  assert.equal(head.text, '');
  assert.equal(head.headers['content-length'], String(Buffer.byteLength(get.text)));
});

test('publish and history', async (t) => {
  const server = await startServer(t);
  const h2 = await openHttp2(t, server);
  const answer = await h2.request('/publish?channel=a', { method: 'POST', body: 'hello', headers: { 'content-type': 'text/plain', 'idempotency-key': 'k' } });
  assert.equal(answer.status, 200);
  const again = await h2.request('/publish?channel=a', { method: 'POST', body: 'hello', headers: { 'content-type': 'text/plain', 'idempotency-key': 'k' } });
  assert.deepEqual(again.json(), { ...answer.json(), repeated: true });
  const { messages } = (await h2.request('/api/channels/a/history')).json();
  assert.deepEqual(messages.map((m) => [m.id, m.data]), [[answer.json().id, 'hello']]);
  const gone = await h2.request('/api/channels/a/history', { method: 'DELETE' });
  assert.equal(gone.json().removed, 1);
});

test('origins: CORS for those that are allowed, 403 for others', async (t) => {
  const server = await startServer(t, ['--allowed-origins', 'https://app.example']);
  const h2 = await openHttp2(t, server);
  const good = await h2.request('/health', { headers: { origin: 'https://app.example' } });
  assert.equal(good.headers['access-control-allow-origin'], 'https://app.example');
  assert.equal((await h2.request('/health', { headers: { origin: server.origin } })).status, 200, 'its own');
  for (const path of ['/health', '/events?channel=a']) assert.equal((await h2.request(path, { headers: { origin: 'https://evil.example' } })).status, 403);
  const ws = h2.connectWs('/ws', { headers: { origin: 'https://evil.example' } });
  assert.equal((await ws.head).status, 403);
});

test('bodies: one of many frames arrives whole, one over 1 MiB gets 413', async (t) => {
  const server = await startServer(t, ['--max-message', '512k']);
  const h2 = await openHttp2(t, server);
  const body = 'x'.repeat(500_000);
  const good = await h2.request('/publish?channel=a', { method: 'POST', body, headers: { 'content-type': 'text/plain' } });
  assert.equal(good.status, 200);
  assert.equal((await h2.request('/api/channels/a/history')).json().messages[0].data, body);
  const bad = await h2.request('/publish?channel=a', { method: 'POST', body: 'x'.repeat(1_100_000) });
  assert.deepEqual([bad.status, bad.json().code], [413, 'too_large']);
  const told = await h2.request('/publish?channel=a', { method: 'POST', body: 'x', headers: { 'content-length': '100000000' } }).catch((e) => e);
  assert.ok(told.status === 413 || told instanceof Error, 'refused before it came');
  assert.equal((await h2.request('/health')).status, 200, 'the connection goes on');
});

test('many large requests at once are refused before they fill the memory', async (t) => {
  const server = await startServer(t);
  const h2 = await openHttp2(t, server);
  const open = Array.from({ length: 8 }, () => h2.stream({ ':method': 'POST', ':path': '/publish?channel=a' }, { endStream: false }));
  for (const stream of open) stream.write('x'.repeat(1_000_000));
  for (const stream of open) stream.end();
  const statuses = (await Promise.all(open.map((s) => s.head))).map((h) => h.status);
  assert.ok(statuses.includes(503), `${statuses}`);
  assert.equal((await h2.request('/health')).status, 200);
});

const MALFORMED = {
  'a path without a slash': [[':method', 'GET'], [':scheme', 'http'], [':authority', 'h'], [':path', 'x']],
  'no authority': [[':method', 'GET'], [':scheme', 'http'], [':path', '/health']],
  'two servers': [[':method', 'GET'], [':scheme', 'http'], [':authority', 'h'], [':path', '/health'], ['host', 'g']],
  'a user in the authority': [[':method', 'GET'], [':scheme', 'http'], [':authority', 'u@h'], [':path', '/health']],
  'another scheme': [[':method', 'GET'], [':scheme', 'ftp'], [':authority', 'h'], [':path', '/health']],
  'a fragment': [[':method', 'GET'], [':scheme', 'http'], [':authority', 'h'], [':path', '/health#x']],
  'a control character in a value': [[':method', 'GET'], [':scheme', 'http'], [':authority', 'h'], [':path', '/health'], ['x', 'a\x01b']],
  'connection-specific fields': [[':method', 'GET'], [':scheme', 'http'], [':authority', 'h'], [':path', '/health'], ['connection', 'close']],
  'Transfer-Encoding': [[':method', 'POST'], [':scheme', 'http'], [':authority', 'h'], [':path', '/publish?channel=smuggled'], ['transfer-encoding', 'chunked']],
  'two lengths': [[':method', 'POST'], [':scheme', 'http'], [':authority', 'h'], [':path', '/publish?channel=smuggled'], ['content-length', '0'], ['content-length', '1']],
  'capitals in a name': [[':method', 'GET'], [':scheme', 'http'], [':authority', 'h'], [':path', '/health'], ['X-A', 'b']],
};
for (const [what, list] of Object.entries(MALFORMED))
  test(`${what}: refused or reset, and the connection goes on`, async (t) => {
    const server = await startServer(t);
    const h2 = await Frames.open(t, server);
    h2.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, fields(list)));
    const f = await h2.upTo((x) => x.id === 1);
    if (f.type === HEADERS) assert.match(f.payload.toString('latin1'), /400|\x08\x03400|\x8c/);
    else assert.deepEqual([f.type, f.payload.readUInt32BE()], [RST_STREAM, NGHTTP2_PROTOCOL_ERROR]);
    h2.send(frame(HEADERS, END_STREAM | END_HEADERS, 3, GET('/health')));
    assert.equal((await h2.upTo((x) => x.id === 3 && x.type === DATA)).payload.toString(), '{"status":"ok"}\n');
    assert.equal((await request(server, '/api/channels/smuggled')).status, 404);
  });

test('a body with GET is refused', async (t) => {
  const server = await startServer(t);
  const h2 = await Frames.open(t, server);
  h2.send(frame(HEADERS, END_HEADERS, 1, GET('/health')), frame(DATA, END_STREAM, 1, Buffer.from('body')));
  assert.match((await h2.upTo((x) => x.id === 1 && x.type === DATA)).payload.toString(), /bad_request/);
});

test('header fields over --h2-header-list get 431, far over it a reset', async (t) => {
  const server = await startServer(t, ['--h2-header-list', '4k']);
  const h2 = await openHttp2(t, server);
  const over = await h2.request('/health', { headers: { cookie: 'x'.repeat(6000) } });
  assert.deepEqual([over.status, over.json().code], [431, 'too_large']);
  const far = h2.stream({ ':path': '/health', ...Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`x${i}`, 'y'.repeat(900)])) });
  await assert.rejects(far.head);
  assert.equal((await h2.request('/health')).status, 200);
});

test('a request that is never finished is reset, an idle connection is closed', async (t) => {
  const server = await startServer(t, ['--request-timeout', '300ms']);
  const h2 = await openHttp2(t, server);
  const stream = h2.stream({ ':method': 'POST', ':path': '/publish?channel=a' }, { endStream: false });
  stream.write('half');
  assert.equal(await guard(stream.ended, 'the reset'), NGHTTP2_CANCEL);
  assert.equal((await h2.goaways.next()).code, NGHTTP2_NO_ERROR);
  await guard(h2.ended, 'the end of the connection');
});

test('an answer that is not taken is given up', async (t) => {
  const server = await startServer(t, ['--request-timeout', '300ms']);
  const window = Buffer.concat([Buffer.from([0, 4]), u32(0)]);
  const h2 = await Frames.open(t, server, window);
  h2.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, GET('/')));
  const f = await h2.upTo((x) => x.type === RST_STREAM);
  assert.deepEqual([f.id, f.payload.readUInt32BE()], [1, NGHTTP2_CANCEL]);
});

test('curl, nghttp and h2load agree with it', async (t) => {
  const server = await startServer(t);
  await publish(server, 'a', 'hello');
  const curl = await tool('curl', ['-sS', '--http2-prior-knowledge', '-w', '%{http_version}', server.url('/health')]);
  assert.equal(curl.stdout, '{"status":"ok"}\n2');
  const events = await tool('curl', ['-sS', '-N', '-m', '1', '--http2-prior-knowledge', server.url('/events?channel=a&history=1')]);
  assert.match(events.stdout, /data: hello/);
  const nghttp = await tool('nghttp', ['-v', server.url('/')]);
  assert.match(nghttp.stdout, /:status: 200/);
  const load = await tool('h2load', ['-n', '500', '-c', '2', '-m', '20', server.url('/health')]);
  assert.match(load.stdout, /500 succeeded, 0 failed/);
});

// --- streams ---

test('forty event streams on one connection', async (t) => {
  const server = await startServer(t);
  const h2 = await openHttp2(t, server);
  const streams = [];
  for (let i = 0; i < 40; i++) streams.push(await h2.events({ channel: ['all', `own${i}`] }));
  for (const [i, stream] of streams.entries()) {
    assert.equal(stream.head.headers['content-type'], 'text/event-stream; charset=utf-8');
    assert.deepEqual((await stream.ready()).channels.map((c) => c.channel), ['all', `own${i}`]);
  }
  assert.equal((await server.stats()).connections.sse, 40);
  await publish(server, 'all', 'to all');
  for (let i = 0; i < 40; i++) await publish(server, `own${i}`, `to ${i}`);
  for (const [i, stream] of streams.entries()) assert.deepEqual((await stream.events.take(2)).map((e) => e.data), ['to all', `to ${i}`]);
  const metrics = (await request(server, '/metrics')).text;
  assert.match(metrics, /^crier_http2_connections 1$/m);
  assert.match(metrics, /^crier_http2_streams 40$/m);
  for (const stream of streams.slice(0, 20)) stream.close();
  await server.connected({ sse: 20 });
  h2.close();
  await server.connected({ sse: 0 });
});

test('an EventSource resumes by Last-Event-ID', async (t) => {
  const server = await startServer(t);
  const h2 = await openHttp2(t, server);
  const first = await h2.events({ channel: 'a' });
  const { id } = await first.ready();
  first.close();
  const ids = await publishMany(server, 'a', ['1', '2']);
  const second = await h2.events({ channel: 'a' }, { headers: { 'last-event-id': id } });
  await second.ready();
  assert.deepEqual((await second.events.take(2)).map((e) => e.id), ids);
});

test('a poll that waits is answered, one that is reset is forgotten', async (t) => {
  const server = await startServer(t);
  const h2 = await openHttp2(t, server);
  const { cursor } = (await h2.request('/poll?channel=a')).json();
  const left = h2.stream({ ':path': `/poll?channel=a&since=${cursor}&timeout=55` });
  const waits = h2.request(`/poll?channel=a&since=${cursor}&timeout=55`);
  await server.connected({ poll: 2 });
  left.close(NGHTTP2_CANCEL);
  await server.connected({ poll: 1 });
  await publish(server, 'a', 'now');
  assert.deepEqual((await waits).json().messages.map((m) => m.data), ['now']);
});

test('a stream that is not read stalls no other, and is closed as too slow', async (t) => {
  const server = await startServer(t, ['--outbox-bytes', '256k', '--outbox-messages', '100', '--history', '2000']);
  const h2 = await openHttp2(t, server);
  const slow = await h2.events({ channel: 'a' });
  await slow.ready();
  slow.stream.pause();
  const quick = await h2.events({ channel: 'a' });
  await quick.ready();
  for (let i = 0; i < 20; i++) {
    const ids = await publishMany(server, 'a', Array.from({ length: 3 }, () => 'x'.repeat(50_000)));
    assert.deepEqual((await quick.events.take(3)).map((e) => e.id), ids);
  }
  slow.stream.resume();
  const events = await slow.events.upTo((e) => e.event === 'crier.close', 'crier.close');
  const close = JSON.parse(events.pop().data);
  assert.deepEqual([close.code, close.cursor], [4001, events.at(-1).id]);
  await guard(slow.stream.ended, 'the end of the slow stream');
  assert.ok(slow.wholly, 'ended by END_STREAM');
  await server.connected({ sse: 1 });
});

test('a connection that answers no PING is cut, others go on', async (t) => {
  const server = await startServer(t, ['--h2-ping', '300ms', '--outbox-bytes', '256k']);
  const h2 = await openHttp2(t, server);
  const stream = await h2.events({ channel: 'a' });
  await stream.ready();
  const silent = await Frames.open(t, server);
  silent.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, GET('/events?channel=a')));
  await silent.upTo((x) => x.type === DATA);
  await silent.raw.all();
  assert.match((await request(server, '/metrics')).text, /^crier_dead_clients_closed_total 1$/m);
  await publish(server, 'a', 'alive');
  assert.equal((await stream.events.next()).data, 'alive');
});

// --- WebSockets (RFC 8441) ---

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
  reset.close(NGHTTP2_CANCEL);
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

// --- abuse ---

const FLOODS = {
  'rapid resets': () => {
    const out = [];
    for (let i = 0; i < 2000; i++) out.push(frame(HEADERS, END_STREAM | END_HEADERS, 2 * i + 1, GET('/health')), frame(RST_STREAM, 0, 2 * i + 1, u32(8)));
    return out;
  },
  'resets that we are made to send': () => {
    const out = [];
    for (let i = 0; i < 2000; i++) out.push(frame(HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, GET('/health', ['connection', 'close'])));
    return out;
  },
  PING: () => Array.from({ length: 2000 }, () => frame(PING, 0, 0, Buffer.alloc(8))),
  SETTINGS: () => Array.from({ length: 2000 }, () => frame(SETTINGS, 0, 0)),
  PRIORITY: () => Array.from({ length: 5000 }, (_, i) => frame(PRIORITY, 0, 2 * (i % 100) + 1, Buffer.from([0, 0, 0, 0, 1]))),
  WINDOW_UPDATE: () => Array.from({ length: 8000 }, () => frame(WINDOW_UPDATE, 0, 0, u32(1))),
  'empty DATA': () => [frame(HEADERS, END_HEADERS, 1, fields([[':method', 'POST'], [':scheme', 'http'], [':authority', 'h'], [':path', '/publish?channel=a']])),
    ...Array.from({ length: 2000 }, () => frame(DATA, 0, 1))],
  'DATA of nothing but padding': () => [frame(HEADERS, END_HEADERS, 1, fields([[':method', 'POST'], [':scheme', 'http'], [':authority', 'h'], [':path', '/publish?channel=a']])),
    ...Array.from({ length: 2000 }, () => frame(DATA, PADDED, 1, Buffer.from([2, 0, 0])))],
  CONTINUATION: () => [frame(HEADERS, 0, 1, GET('/health')), ...Array.from({ length: 2000 }, () => frame(CONTINUATION, 0, 1, fields([['x', 'y']])))],
};
for (const [what, frames] of Object.entries(FLOODS))
  test(`a flood of ${what} is answered with GOAWAY(ENHANCE_YOUR_CALM)`, async (t) => {
    const server = await startServer(t);
    const h2 = await Frames.open(t, server);
    h2.send(...frames());
    const code = await h2.goaway();
    // nghttp2 has a limit of its own for CONTINUATION, and speaks first.
    if (what !== 'CONTINUATION' || code !== NGHTTP2_PROTOCOL_ERROR) assert.equal(code, NGHTTP2_ENHANCE_YOUR_CALM);
    assert.equal((await request(server, '/health')).status, 200);
    if (code === NGHTTP2_ENHANCE_YOUR_CALM) {
      assert.match((await request(server, '/metrics')).text, /^crier_refused_total\{reason="http2_flood"\} 1$/m);
      assert.equal(server.events('http2_flood').length, 1);
    }
  });

test('a header bomb is cut off', async (t) => {
  const server = await startServer(t);
  const h2 = await Frames.open(t, server);
  // One field of 4,000 bytes into the table, then named 15,000 times by one byte each.
  const value = Buffer.alloc(4000, 'b');
  const put = Buffer.concat([Buffer.from([0x40, 1]), Buffer.from('x'), Buffer.from([0x7f, 0xa1, 0x1e]), value]);
  const bomb = Buffer.concat([GET('/health'), put, Buffer.alloc(10_000, 0xbe)]);
  h2.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, bomb));
  const f = await h2.upTo((x) => x.type === RST_STREAM || x.type === GOAWAY);
  assert.ok(f.type === RST_STREAM || f.type === GOAWAY);
});

test('frames on a stream that was ended, or on an id that was skipped, end the connection', async (t) => {
  const server = await startServer(t);
  const late = await Frames.open(t, server);
  late.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, GET('/health')));
  await late.upTo((x) => x.id === 1 && x.type === DATA);
  assert.equal(await late.send(frame(DATA, 0, 1, Buffer.from('late'))).goaway(), NGHTTP2_STREAM_CLOSED);
  const lower = await Frames.open(t, server);
  lower.send(frame(HEADERS, END_STREAM | END_HEADERS, 5, GET('/health')), frame(HEADERS, END_STREAM | END_HEADERS, 3, GET('/health')));
  assert.equal(await lower.goaway(), NGHTTP2_PROTOCOL_ERROR);
});

test('more streams than --h2-max-streams are refused, the others live', async (t) => {
  const server = await startServer(t, ['--h2-max-streams', '3']);
  const h2 = await Frames.open(t, server);
  for (let i = 0; i < 4; i++) h2.send(frame(HEADERS, END_STREAM | END_HEADERS, 2 * i + 1, GET('/events?channel=a')));
  const f = await h2.upTo((x) => x.type === RST_STREAM || x.type === GOAWAY);
  assert.deepEqual([f.type, f.id], [RST_STREAM, 7]);
  await server.connected({ sse: 3 });
});

// --- the end ---

test('drain: GOAWAY twice, streams end as they do on HTTP/1.1, polls are answered', async (t) => {
  const server = await startServer(t, ['--drain', '5s', '--workers', '2']);
  const h2 = await Frames.open(t, server);
  h2.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, GET('/events?channel=a')));
  await h2.upTo((x) => x.type === DATA && x.payload.includes('crier.ready'));
  const { cursor } = (await request(server, '/poll?channel=a')).json();
  h2.send(frame(HEADERS, END_STREAM | END_HEADERS, 3, GET(`/poll?channel=a&since=${cursor}&timeout=55`)));
  await server.connected({ sse: 1, poll: 1 });
  server.proc.kill('SIGTERM');
  const seen = { goaways: [], events: '', poll: '' };
  while (!seen.ended || !seen.answered || seen.goaways.length < 2) {
    const f = await h2.next();
    if (f.type === GOAWAY) seen.goaways.push([f.payload.readUInt32BE(), f.payload.readUInt32BE(4)]);
    if (f.type === PING && !(f.flags & ACK)) h2.send(frame(PING, ACK, 0, f.payload));
    if (f.type === DATA && f.id === 1) seen.events += f.payload;
    if (f.type === DATA && f.id === 3) seen.poll += f.payload;
    if (f.type === DATA && f.flags & END_STREAM) seen[f.id === 1 ? 'ended' : 'answered'] = true;
  }
  assert.deepEqual(seen.goaways, [[2 ** 31 - 1, NGHTTP2_NO_ERROR], [3, NGHTTP2_NO_ERROR]]);
  assert.match(seen.events, /^retry: \d+\n\n?event: crier\.close\ndata: \{"code":1001/m);
  assert.deepEqual(JSON.parse(seen.poll), { cursor, messages: [], gaps: [] });
  await h2.raw.all();
  h2.raw.close();
  assert.equal((await guard(server.exit, 'the end')).code, 0);
});

test('drain: WebSockets are closed with 1001; a peer that answers nothing holds nobody up', async (t) => {
  const server = await startServer(t, ['--drain', '10s']);
  const h2 = await openHttp2(t, server);
  const ws = await h2.webSocket('/ws?channel=a');
  const idle = await Frames.open(t, server);
  await idle.next();
  const began = Date.now();
  server.proc.kill('SIGTERM');
  assert.equal((await ws.closed).code, 1001);
  assert.equal((await guard(server.exit, 'the end')).code, 0);
  assert.ok(Date.now() - began < 9000, 'before the deadline');
});

test('a server that is killed ends every stream', async (t) => {
  const server = await startServer(t);
  const h2 = await openHttp2(t, server);
  const stream = await h2.events({ channel: 'a' });
  await stream.ready();
  await server.crash();
  await guard(stream.stream.ended, 'the end of the stream');
  await until(() => h2.session.destroyed, 'the session is over');
});
