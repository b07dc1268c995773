// A Redis that is not there from the start, and settings that cannot be meant: what clients and
// operators are told, and that nobody is told a password.

import assert from 'node:assert/strict';
import test from 'node:test';
import { get, postJson, request } from './lib/http.js';
import { pollAnswer } from './lib/poll.js';
import { run, startServer } from './lib/server.js';
import { openSse } from './lib/sse.js';
import { atEnd, guard, until } from './lib/wait.js';
import { openWs, WsClient } from './lib/wsclient.js';

const NOWHERE = 'unix://worker:hunter2@/nonexistent/redis.sock';

const startAway = (t, flags = []) => startServer(t, ['--redis-timeout', '300ms', ...flags], { env: { REDIS_URL: NOWHERE } });

// Not awaited until `ready`, which does not come.
function connect(t, server, path) {
  const client = new WsClient(server.wsUrl(path));
  atEnd(t, () => client.socket.terminate());
  return client;
}

for (const [what, args, env, words] of [
  ['a URL of another kind', ['--redis', 'http://me:hunter2@h'], {}, /^crier: --redis: .*redis:\/\//],
  ['a URL without a host', ['--redis', 'redis://:hunter2@'], {}, /^crier: --redis: .*host/],
  ['a password with a bare @', [], { REDIS_URL: 'redis://:hunter2@x@h' }, /^crier: --redis: /],
  ['a URL that the shell has cut off its flag', ['redis://:hunter2@h'], {}, /expected an option/],
  ['a URL at the wrong flag', ['--redis-prefix', 'redis://:hunter2@h'], {}, /redis-prefix/],
  ['a misspelt variable', [], { CRIER_REDIS_URL: 'redis://:hunter2@h' }, /CRIER_REDIS_URL.*did you mean CRIER_REDIS\?/],
  ['a CA that is not there', ['--redis', 'rediss://:hunter2@h', '--redis-ca', '/nonexistent/ca.pem'], {}, /ca\.pem/],
  ['a certificate without its key', ['--redis', 'rediss://:hunter2@h', '--redis-cert', '/nonexistent/cert.pem'], {}, /redis-key/],
  ['a largest answer below the largest message', ['--redis', 'redis://:hunter2@h', '--redis-max-reply', '1m', '--max-message', '1m'], {}, /redis-max-reply/],
]) {
  test(`${what} stops it with what is wrong`, async () => {
    const { code, stdout, stderr } = await run(['serve', '--port', '0', ...args], { env });
    assert.deepEqual([code, stdout], [2, ''], stderr);
    assert.match(stderr, words);
    assert.doesNotMatch(stderr, /hunter2/);
    assert.equal(stderr.trim().split('\n').length, 1, 'one line');
  });
}

test('without Redis it starts, says that it is not ready and why, and never the password', async (t) => {
  const server = await startAway(t);
  const ready = await get(server, '/ready');
  assert.equal(ready.status, 503);
  assert.ok(Number(ready.headers['retry-after']) > 0);
  assert.equal(ready.headers['content-type'], 'application/json');
  const { status, reason } = ready.json();
  assert.equal(status, 'unavailable');
  assert.match(reason, /redis/i);
  assert.deepEqual((await get(server, '/health')).json(), { status: 'ok' });
  assert.equal((await get(server, '/metrics')).status, 200);
  const stats = (await get(server, '/stats')).json();
  assert.deepEqual([stats.total_connections, 'rooms' in stats], [0, false]);
  const [bus] = server.events('bus');
  assert.deepEqual([bus.kind, bus.mode, bus.url, bus.prefix], ['redis', 'single', 'unix:///nonexistent/redis.sock', 'crier:']);
  await until(() => server.events('redis_link_down').length > 0, 'the log says that there is no link');
  await server.stop();
  assert.doesNotMatch(server.stderr, /hunter2/);
});

test('an empty REDIS_URL means none', async (t) => {
  const server = await startServer(t, [], { env: { REDIS_URL: '' } });
  assert.equal(server.events('bus')[0].kind, 'memory');
  assert.equal((await get(server, '/ready')).status, 200);
});

test('publishing and asking are refused at once, with Retry-After', async (t) => {
  const server = await startAway(t, ['--redis-timeout', '1m']);
  for (const answer of [
    await request(server, '/publish?channel=a', { method: 'POST', body: 'x' }),
    await request(server, '/publish?channel=a&channel=b', { method: 'POST', body: 'x' }),
    await postJson(server, '/api/publish', { channel: 'a', data: 1 }),
    await request(server, '/chat/room', { method: 'POST', body: '{"content":"x"}' }),
    await get(server, '/api/channels/a/history'),
    await request(server, '/api/channels/a/history', { method: 'DELETE' }),
    await get(server, '/api/channels'),
    await get(server, '/api/channels/a'),
  ]) {
    assert.deepEqual([answer.status, answer.json().code], [503, 'unavailable'], answer.text);
    assert.ok(Number(answer.headers['retry-after']) > 0);
  }
});

test('who comes is told to come later, as its transport can be told', async (t) => {
  const server = await startAway(t);
  const polled = await pollAnswer(server, { channel: 'a' });
  assert.deepEqual([polled.status, polled.json().code], [503, 'unavailable']);
  assert.ok(Number(polled.headers['retry-after']) > 0);

  const stream = await openSse(t, server, { channel: 'a' });
  await guard(stream.raw.ended, 'the end of the stream');
  stream.read();
  const m = /\n\nretry: (\d+)\n\n?event: crier\.close\ndata: (\{.*\})\n\n$/.exec(stream.body);
  assert.ok(m, JSON.stringify(stream.body));
  assert.equal(JSON.parse(m[2]).code, 1013);

  for (const path of ['/ws?channel=a', '/ws?channel=a&format=raw', '/chat/room'])
    assert.equal((await connect(t, server, path).closed).code, 1013, path);
});

// It may have other channels, and a new connection would be no better off.
test('a WebSocket that subscribes is refused that and stays open', async (t) => {
  const server = await startAway(t);
  const ws = await openWs(t, server, '/ws');
  for (let i = 0; i < 2; i++) {
    const refused = await ws.command({ op: 'subscribe', channel: 'a' });
    assert.deepEqual([refused.op, refused.code], ['error', 'unavailable']);
    assert.equal((await ws.command({ op: 'unsubscribe', channel: 'a' })).code, 'not_subscribed');
  }
  assert.equal((await ws.command({ op: 'ping' })).op, 'pong');
});

test('SIGTERM ends it while many wait for Redis', async (t) => {
  for (const workers of ['1', '2']) {
    const server = await startAway(t, ['--redis-timeout', '1m', '--workers', workers]);
    const sockets = [];
    for (let i = 0; i < 8; i++) {
      const ws = await openWs(t, server, '/ws');
      ws.send({ op: 'subscribe', channel: 'a', ref: 'never' });
      await ws.command({ op: 'ping' });
      sockets.push(ws, connect(t, server, `/ws?channel=c${i}`));
    }
    const polls = Array.from({ length: 8 }, () => pollAnswer(server, { channel: 'a' }));
    await server.connected({ ws: 16, poll: 8 });
    await server.terminate();
    for (const ws of sockets) await ws.closed;
    for (const answer of await Promise.all(polls)) assert.deepEqual([answer.status, answer.json().code], [503, 'unavailable']);
    await server.stop();
  }
});
