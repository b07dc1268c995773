// HTTP/2 by prior knowledge, and by ALPN with TLS: the same handlers, many streams on one connection.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import http2 from 'node:http2';
import test from 'node:test';
import { isSecure } from './lib/dial.js';
import { ACK, DATA, END_HEADERS, END_STREAM, fields, frame, Frames, GET, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, u32, WINDOW_UPDATE } from './lib/frames.js';
import { publish, publishMany, request } from './lib/http.js';
import { cancel, openHttp2 } from './lib/http2.js';
import { startServer } from './lib/server.js';
import { guard, pause, until } from './lib/wait.js';

const { NGHTTP2_CANCEL, NGHTTP2_COMPRESSION_ERROR, NGHTTP2_NO_ERROR, NGHTTP2_PROTOCOL_ERROR, NGHTTP2_STREAM_CLOSED } = http2.constants;

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
  const heads = await Promise.all(open.map((s) => s.head));
  const refused = heads.find((h) => h.status === 503);
  assert.ok(refused, `${heads.map((h) => h.status)}`);
  assert.equal(refused.headers['retry-after'], '2');
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

test('an answer that waits for its turn while others are taken, slowly, is not given up', async (t) => {
  const server = await startServer(t, ['--request-timeout', '1s']);
  const h2 = await Frames.open(t, server, Buffer.concat([Buffer.from([0, 4]), u32(1 << 20)]));
  const ids = Array.from({ length: 40 }, (_, i) => 2 * i + 1);
  const whole = new Set();
  let taken = 0;
  const take = async () => {
    const f = await h2.upTo((x) => x.type === DATA || x.type === RST_STREAM);
    assert.equal(f.type, DATA, `stream ${f.id}`);
    taken += f.payload.length;
    if (f.flags & END_STREAM) whole.add(f.id);
  };
  for (const id of ids) h2.send(frame(HEADERS, END_STREAM | END_HEADERS, id, GET('/style.css')));
  while (taken < 65535) await take(); // the window of the connection
  for (let i = 0; i < 25; i++) {
    await pause(100); // a slow reader, for more than twice the timeout
    h2.send(frame(WINDOW_UPDATE, 0, 0, u32(2000)));
    for (const upTo = taken + 2000; taken < upTo; ) await take();
  }
  h2.send(frame(WINDOW_UPDATE, 0, 0, u32(1 << 24)));
  while (whole.size < ids.length) await take();
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
  // Over TLS curl must find out by itself.
  const how = isSecure(server.port) ? [] : ['--http2-prior-knowledge'];
  const curl = await tool('curl', ['-sS', ...how, '-w', '%{http_version}', server.url('/health')]);
  assert.equal(curl.stdout, '{"status":"ok"}\n2', curl.stderr);
  const posted = await tool('curl', ['-sS', ...how, '-d', 'x'.repeat(60_000), '-H', 'Content-Type: text/plain', server.url('/publish?channel=b')]);
  assert.equal(JSON.parse(posted.stdout).channel, 'b');
  const events = await tool('curl', ['-sS', '-N', '-m', '1', ...how, server.url('/events?channel=a&history=1')]);
  assert.match(events.stdout, /data: hello/);
  const nghttp = await tool('nghttp', ['-v', '--no-verify-peer', server.url('/')]);
  assert.match(nghttp.stdout, /:status: 200/);
});

test('h2load: ordinary heavy use is no flood', async (t) => {
  const server = await startServer(t);
  const load = await tool('h2load', ['-n', '20000', '-c', '10', '-m', '100', server.url('/health')]);
  assert.match(load.stdout, /20000 succeeded, 0 failed/);
  assert.match(load.stdout, isSecure(server.port) ? /Application protocol: h2\n/ : /Application protocol: h2c\n/);
  const pages = await tool('h2load', ['-n', '2000', '-c', '4', '-m', '100', '-w', '14', '-W', '15', server.url('/')]);
  assert.match(pages.stdout, /2000 succeeded, 0 failed/);
  assert.equal(server.events('http2_flood').length, 0);
});

test('a page with a hundred streams that is opened and closed again and again is no flood', async (t) => {
  const server = await startServer(t);
  const h2 = await openHttp2(t, server);
  for (let round = 0; round < 5; round++) {
    const streams = await Promise.all(Array.from({ length: 100 }, () => h2.events({ channel: 'a' })));
    await Promise.all(streams.map((s) => s.ready()));
    for (const stream of streams) stream.close();
  }
  await server.connected({ sse: 0 });
  assert.equal((await h2.request('/health')).status, 200);
  assert.equal(server.events('http2_flood').length, 0);
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
  cancel(left);
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

test('a field by an index that is not there ends the connection', async (t) => {
  const server = await startServer(t);
  for (const field of [[0xfe], [0xc6], [0x7f, 0x07, 0x00]]) {
    const h2 = await Frames.open(t, server);
    h2.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, Buffer.concat([GET('/health'), Buffer.from(field)])));
    assert.equal(await h2.goaway(), NGHTTP2_COMPRESSION_ERROR);
  }
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
