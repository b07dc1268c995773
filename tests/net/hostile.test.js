// Clients that mean harm, or only behave like it: what they do must cost the others nothing.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import net from 'node:net';
import test from 'node:test';
import { dial } from './lib/dial.js';
import { get, numbered, postJson, publish, query, request } from './lib/http.js';
import { rawConnect } from './lib/raw.js';
import { startServer } from './lib/server.js';
import { GUARD_MS, until } from './lib/wait.js';
import { BINARY, CLOSE, PING, PONG, TEXT, frame, openRawWs, upgradeRequest } from './lib/wsraw.js';

const command = (value) => frame(TEXT, JSON.stringify(value));
// What a worker's first daemon of libmicrohttpd holds at most (two in 0.9.75, three in 1.0.1).
const PER_DAEMON = 3;
const descriptors = (server) => readdirSync(`/proc/${server.proc.pid}/fd`).length;

// Seconds of processor time the server has used.
function cpu(server) {
  const fields = readFileSync(`/proc/${server.proc.pid}/stat`, 'latin1').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

async function openConnections(server) {
  const text = (await get(server, '/metrics')).text;
  return Number(/^crier_connections (\d+)$/m.exec(text)[1]);
}

// Everyone but the one who asks has left, and their sockets are closed.
async function everyoneLeft(server, floor) {
  await server.connected({ sse: 0, ws: 0, poll: 0 });
  let open, fds;
  await until(async () => {
    open = await openConnections(server);
    fds = descriptors(server);
    return open <= 1 && fds <= floor;
  }, () => `all sockets are closed: ${open} connections, ${fds} descriptors of ${floor}`);
}

test('thousands of commands sent at once are all answered, in order', async (t) => {
  const server = await startServer(t, ['--workers', '1']);
  const ws = await openRawWs(t, server, '/ws');
  const n = 3000;
  ws.send(...numbered('', n).map((i) => command({ op: 'publish', channel: 'a', data: Number(i), ref: Number(i) })));
  for (let i = 0; i < n; i++) {
    const answer = await ws.json();
    assert.equal(answer.op, 'ok');
    assert.equal(answer.ref, i);
  }
});

test('many pings are answered one by one, as long as so many are allowed', async (t) => {
  const server = await startServer(t, ['--workers', '1', '--ws-control-rate', '100000']);
  const ws = await openRawWs(t, server, '/ws');
  const n = 5000;
  ws.send(...numbered('p', n).map((text) => frame(PING, text)));
  for (let i = 0; i < n; i++) {
    const f = await ws.frame();
    assert.equal(f.opcode, PONG);
    assert.equal(f.payload.toString(), `p${i}`);
  }
});

test('a burst longer than the outbox does not make a quick reader slow', async (t) => {
  const server = await startServer(t, ['--workers', '1', '--outbox-messages', '1000', '--history', '0']);
  const ws = await openRawWs(t, server, '/ws?channel=a');
  const sse = await rawConnect(t, server);
  sse.send('GET /events?channel=a HTTP/1.1\r\nHost: h\r\n\r\n');
  await sse.through('event: crier.ready');
  await sse.through('\n\n');
  const batch = numbered('', 1000).map((i) => ({ channel: 'a', data: Number(i) }));
  const answers = await Promise.all([1, 2, 3, 4].map(() => postJson(server, '/api/publish', batch)));
  for (const answer of answers) assert.equal(answer.status, 200);
  for (let i = 0; i < 4000; i++) assert.equal((await ws.json()).op, 'message', `WebSocket message ${i}`);
  for (let i = 0; i < 4000; i++) assert.doesNotMatch(await sse.through('\n\n'), /crier\.close/, `event ${i}`);
});

test('who asks and half-closes gets the answer', async (t) => {
  const server = await startServer(t);
  for (const asked of [
    'POST /publish?channel=a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi',
    'GET /stats HTTP/1.1\r\nHost: h\r\n\r\n',
    'GET /health HTTP/1.1\r\nHost: h\r\n\r\n',
  ]) {
    const raw = await rawConnect(t, server, { allowHalfOpen: true });
    raw.socket.end(asked);
    assert.equal((await raw.head()).status, 200, asked);
  }
});

test('who waits in a poll and half-closes has left', async (t) => {
  const server = await startServer(t);
  const { cursor } = (await get(server, '/poll?channel=a')).json();
  const raw = await rawConnect(t, server, { allowHalfOpen: true });
  raw.send(`GET /poll?channel=a&since=${cursor} HTTP/1.1\r\nHost: h\r\n\r\n`);
  await server.connected({ poll: 1 });
  raw.socket.end();
  await server.connected({ poll: 0 });
  assert.equal(await raw.all(), '');
});

test('polls that are cut at the end of the drain are answered', async (t) => {
  for (const workers of ['1', '2']) {
    const server = await startServer(t, ['--workers', workers, '--drain', '0s']);
    const { cursor } = (await get(server, '/poll?channel=a')).json();
    const waiting = numbered('', 4).map(() => request(server, `/poll?channel=a&since=${cursor}`));
    await server.connected({ poll: 4 });
    await server.terminate();
    for (const answer of await Promise.all(waiting)) assert.ok([200, 503].includes(answer.status), `${answer.status}`);
  }
});

test('a chunked body without end is cut off', async (t) => {
  const server = await startServer(t);
  const raw = await rawConnect(t, server);
  raw.send('POST /publish?channel=a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n');
  const chunk = Buffer.from(`10000\r\n${'x'.repeat(65536)}\r\n`);
  const end = Date.now() + GUARD_MS;
  while (!raw.closed && !raw.error) {
    assert.ok(Date.now() < end, 'the server takes chunks for ever');
    if (!raw.socket.write(chunk)) await Promise.race([new Promise((done) => raw.socket.once('drain', done)), raw.ended]);
    else await new Promise(setImmediate);
  }
});

test('a channel subscribed before ready is not part of ready', async (t) => {
  const server = await startServer(t, ['--workers', '1']);
  await publish(server, 'early', 'x');
  const raw = await rawConnect(t, server);
  raw.send(Buffer.concat([Buffer.from(upgradeRequest(server, '/ws?channel=a')), command({ op: 'subscribe', channel: 'early', ref: 1 })]));
  assert.equal((await raw.head()).status, 101);
  const text = (await raw.through('"ref":1')).toString();
  const ready = JSON.parse(/\{"op":"ready".*?\]\}/.exec(text)[0]);
  assert.deepEqual(ready.channels.map((c) => c.channel), ['a']);
  assert.doesNotMatch(ready.cursor, /~/);
});

test('a message over the limit is refused in every dialect', async (t) => {
  const server = await startServer(t, ['--max-message', '1k']);
  const big = 'x'.repeat(1025);
  const raw = await openRawWs(t, server, '/ws?channel=a&format=raw');
  assert.equal((await raw.send(frame(BINARY, big)).closed()).code, 1009);
  const chat = await openRawWs(t, server, '/chat/room');
  assert.equal((await chat.send(frame(TEXT, JSON.stringify({ content: big }))).closed()).code, 1009);
  const json = await openRawWs(t, server, '/ws');
  assert.equal((await json.send(command({ op: 'publish', channel: 'a', data: big })).json()).code, 'too_large');
  assert.equal((await request(server, '/publish?channel=a', { method: 'POST', body: big })).status, 413);
});

test('an empty Origin is refused', async (t) => {
  const server = await startServer(t);
  const raw = await rawConnect(t, server);
  raw.send('POST /publish?channel=a HTTP/1.1\r\nHost: h\r\nOrigin: \r\nContent-Length: 1\r\n\r\nx');
  const answer = await raw.answer();
  assert.equal(answer.status, 403);
  assert.equal(answer.json().code, 'origin_not_allowed');
});

test('a WebSocket in HTTP/1.0 is told why not', async (t) => {
  const server = await startServer(t);
  const raw = await rawConnect(t, server);
  raw.send(upgradeRequest(server, '/ws').replace('HTTP/1.1', 'HTTP/1.0'));
  assert.equal((await raw.head()).status, 426);
});

test('a Transfer-Encoding in HTTP/1.0 is refused', async (t) => {
  const server = await startServer(t);
  const raw = await rawConnect(t, server);
  raw.send('POST /publish?channel=a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n');
  assert.equal((await raw.head()).status, 400);
});

test('a head that begins with an empty line has the same limit', async (t) => {
  const server = await startServer(t);
  const raw = await rawConnect(t, server);
  raw.send(`\r\nGET /health HTTP/1.1\r\nHost: h\r\nX: ${'x'.repeat(17000)}`);
  assert.equal((await raw.head()).status, 431);
});

test('who leaves in the middle of a request is noticed at once', async (t) => {
  const server = await startServer(t, ['--request-timeout', '1h', '--workers', '2']);
  const floor = descriptors(server) + 2 * PER_DAEMON + 1; // a daemon for each worker, and who asks
  for (let i = 0; i < 50; i++) {
    const socket = dial(server.port).on('dialled', () => socket.end('GET /eve'));
    await new Promise((done) => socket.on('error', () => {}).once('close', done).resume());
  }
  await everyoneLeft(server, floor);
});

// Every route, left at once, after the answer has begun, and by a reset; nothing may stay behind.
const LEAVERS = {
  'an event stream': (get1) => get1('/events?channel=a'),
  'an event stream of 32 channels': (get1) => get1(`/events?${query({ channel: numbered('c', 32) })}`),
  'three event streams in a pipeline': (get1) => get1('/events?channel=a').repeat(3),
  'a poll': (get1, cursor) => get1(`/poll?channel=q&since=${cursor}`),
  'two polls in a pipeline': (get1, cursor) => get1(`/poll?channel=q&since=${cursor}`).repeat(2),
  'a history': (get1) => get1('/api/channels/a/history'),
  'ten publishes in a pipeline': () => 'POST /publish?channel=a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi'.repeat(10),
  'a WebSocket': (get1, cursor, server) => upgradeRequest(server, '/ws?channel=a'),
  'a WebSocket with its Close': (get1, cursor, server) =>
    upgradeRequest(server, '/ws?channel=a') + frame(CLOSE, '\x03\xe8').toString('latin1'),
  'a chat room': (get1, cursor, server) =>
    upgradeRequest(server, '/chat/x') + command({ content: 'y' }).toString('latin1'),
  'half a WebSocket frame': (get1, cursor, server) =>
    upgradeRequest(server, '/ws') + command({ op: 'ping' }).subarray(0, 9).toString('latin1'),
};

for (const [what, bytesOf] of Object.entries(LEAVERS)) {
  test(`leaving leaves nothing behind: ${what}`, async (t) => {
    const server = await startServer(t);
    const { cursor } = (await get(server, '/poll?channel=q')).json();
    const bytes = Buffer.from(bytesOf((path) => `GET ${path} HTTP/1.1\r\nHost: h\r\n\r\n`, cursor, server), 'latin1');
    const floor = descriptors(server) + 2 * PER_DAEMON + 1; // a daemon for each worker, and who asks
    const leave = (how) =>
      new Promise((done) => {
        const socket = dial(server.port).on('dialled', () => {
          socket.write(bytes);
          if (how === 'at once') socket.destroy();
          if (how === 'reset') setImmediate(() => socket.resetAndDestroy());
          if (how === 'answered') setTimeout(() => socket.destroy(), 20);
        });
        socket.on('error', () => {}).once('close', done);
      });
    for (const how of ['at once', 'reset', 'answered'])
      for (let round = 0; round < 4; round++) await Promise.all(numbered('', 25).map(() => leave(how)));
    await everyoneLeft(server, floor);
  });
}

test('out of descriptors the server waits, and serves again when they are back', async (t) => {
  const server = await startServer(t, ['--workers', '1', '--request-timeout', '1h']);
  const limit = descriptors(server) + 40;
  execFileSync('prlimit', ['--pid', String(server.proc.pid), `--nofile=${limit}:${limit}`]);
  const floor = descriptors(server) + PER_DAEMON + 1;
  const crowd = [];
  for (let i = 0; i < 200; i++) {
    const socket = dial(server.port).on('error', () => {});
    socket.write('GET /eve'); // holds its descriptor for as long as it likes
    crowd.push(socket.resume());
  }
  await until(() => server.events('accept_paused').length >= 3, 'accepting has paused several times');
  const before = cpu(server);
  const pauses = server.events('accept_paused').length;
  await until(() => server.events('accept_paused').length >= pauses + 5, 'five pauses more');
  assert.ok(cpu(server) - before < 0.25, 'the server spins while it has no descriptors');
  for (const socket of crowd) socket.destroy();
  await everyoneLeft(server, floor);
});

test('what is sent on an event stream is not heard and burns nothing', async (t) => {
  const server = await startServer(t, ['--workers', '1']);
  const raw = await rawConnect(t, server);
  raw.send('GET /events?channel=a HTTP/1.1\r\nHost: h\r\n\r\n');
  await raw.through('crier.ready');
  for (let i = 0; i < 20; i++) raw.send('x'.repeat(65536));
  await publish(server, 'a', 'still here');
  await raw.through('data: still here');
  const before = cpu(server);
  for (let i = 0; i < 20; i++) await get(server, '/health');
  assert.ok(cpu(server) - before < 0.5, 'the server spins');
});

test('an address named twice is listened on once', async (t) => {
  const probe = net.createServer();
  await new Promise((done) => probe.listen(0, '127.0.0.1', done));
  const { port } = probe.address();
  await new Promise((done) => probe.close(done));
  const server = await startServer(t, ['--host', '127.0.0.1,localhost'], { port });
  const text = server.events('listening').filter((f) => f.url.startsWith(`${server.scheme}:`)).map((f) => f.host);
  assert.deepEqual([...new Set(text)], text);
  assert.equal((await get(server, '/health')).status, 200);
});
