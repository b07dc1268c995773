// Is /ready true? Whatever breaks delivery, and whatever the sockets say:
//
// | broken by                          | /ready       | publishing              | streams     | after      |
// | ---------------------------------- | ------------ | ----------------------- | ----------- | ---------- |
// | Redis stopped (SIGSTOP)            | 503 in < 3 s | 503 at once             | stay open   | by itself  |
// | Redis killed                       | 503 in < 3 s | 503 at once             | stay open   | by itself  |
// | all links silent, sockets open     | 503 in < 3 s | 503 at once             | stay open   | by itself  |
// | command links silent               | 503 in < 3 s | 503 at once             | stay open   | by itself  |
// | subscribe links silent             | 503 in < 3 s | goes on                 | stay open   | by itself  |
// | subscribing forbidden (ACL)        | 503 in < 3 s | goes on                 | stay open   | by itself  |
// | CLIENT KILL, output buffer full    | -            | goes on                 | stay open   | by itself  |
// | Redis full or read-only            | 503 in < 3 s | 503 at once             | stay open   | by itself  |
//
// Nobody loses a message, or is told of a gap, by any of it. /health is 200 all the time.

import assert from 'node:assert/strict';
import test from 'node:test';
import { judge } from './lib/checker.js';
import { Follower } from './lib/follower.js';
import { get, publish, publishMany, numbered, request } from './lib/http.js';
import { publishSurely, readyStatus, startInstances, untilReady, wholeHistory } from './lib/instances.js';
import { startRedis } from './lib/redis.js';
import { COMMANDS, startRelay, SUBSCRIBERS } from './lib/relay.js';
import { TRANSPORTS } from './lib/transports.js';
import { atEnd, until } from './lib/wait.js';
import { openWs } from './lib/wsclient.js';

const NOTICED_MS = 3000;
const AT_ONCE_MS = 500;
const TIMEOUT_MS = 2000;
const FLAGS = ['--redis-timeout', `${TIMEOUT_MS}ms`, '--history', '10000', '--outbox-messages', '10000'];

async function timed(action) {
  const began = performance.now();
  const value = await action();
  return [value, performance.now() - began];
}

const tryPublish = (server, body) => request(server, '/publish?channel=a', { method: 'POST', headers: { 'Content-Type': 'text/plain' }, body });

// A Redis behind a relay, an instance, and a client on each transport.
async function setUp(t, redisOptions = { aof: true }) {
  const redis = await startRedis(t, redisOptions);
  const relay = await startRelay(t, redis);
  const [server] = await startInstances(t, 1, relay, FLAGS);
  const clients = TRANSPORTS.map((transport) => new Follower([server], transport, ['a']));
  for (const client of clients) atEnd(t, () => client.leave());
  await Promise.all(clients.map((client) => client.connect(1)));
  const following = Promise.all(clients.map((client) => client.follow('the end')));
  following.catch(() => {});
  for (const data of ['1', '2']) await publish(server, 'a', data);
  return { redis, relay, server, clients, following };
}

async function noticed(server, action) {
  const [, ms] = await timed(async () => {
    await action();
    await until(async () => {
      assert.equal((await get(server, '/health')).status, 200);
      return (await readyStatus(server)) === 503;
    }, '/ready is 503');
  });
  assert.ok(ms < NOTICED_MS, `/ready turned 503 after ${Math.round(ms)} ms`);
  const why = (await get(server, '/ready')).json();
  assert.notEqual(why.status, 'ready', JSON.stringify(why));
  return ms;
}

async function refusedAtOnce(server) {
  for (let i = 0; i < 5; i++) {
    const [answer, ms] = await timed(() => tryPublish(server, 'refused'));
    assert.deepEqual([answer.status, answer.json().code], [503, 'unavailable']);
    assert.ok(Number(answer.headers['retry-after']) > 0, 'with Retry-After');
    assert.ok(ms < AT_ONCE_MS, `refused after ${Math.round(ms)} ms`);
  }
}

// Everybody has everything that is kept, in order and once, without a gap and without having been
// disconnected.
async function allIsWell({ server, clients, following }) {
  await untilReady(server);
  await publishSurely(server, 'a', 'the end');
  await following;
  const order = (await wholeHistory(server, 'a')).map((m) => m.id);
  for (const client of clients) {
    assert.deepEqual(client.gaps('a'), [], client.transport);
    assert.deepEqual(judge(order, client.ids('a')).slice(0, 3), [], client.transport);
    if (client.transport !== 'poll') assert.equal(client.dropped, 0, `${client.transport} stayed open`);
  }
}

for (const [what, breakIt, mendIt, options] of [
  ['Redis is stopped', ({ redis }) => redis.pause(), ({ redis }) => redis.resume(), { refuses: true }],
  ['Redis is killed', ({ redis }) => redis.kill9(), ({ redis }) => redis.restart(), { refuses: true }],
  ['all links are silent', ({ relay }) => relay.stall(), ({ relay }) => relay.restore(), { refuses: true }],
  ['command links are silent', ({ relay }) => relay.stall(COMMANDS), ({ relay }) => relay.restore(), { refuses: true }],
  ['subscribe links are silent', ({ relay }) => relay.stall(SUBSCRIBERS), ({ relay }) => relay.restore(), {}],
  ['subscribing is forbidden', ({ redis }) => redis.cli('ACL', 'SETUSER', 'default', 'resetchannels'), ({ redis }) => redis.cli('ACL', 'SETUSER', 'default', '&*'), {}],
]) {
  test(`${what}: not ready within 3 s, publishing is refused or goes on, and back by itself`, async (t) => {
    const all = await setUp(t);
    const ms = await noticed(all.server, () => breakIt(all));
    t.diagnostic(`/ready was 503 after ${Math.round(ms)} ms`);
    if (options.refuses) await refusedAtOnce(all.server);
    else if (what !== 'subscribing is forbidden') await publish(all.server, 'a', 'meanwhile');
    await mendIt(all);
    const [, back] = await timed(() => untilReady(all.server));
    t.diagnostic(`ready again after ${Math.round(back)} ms`);
    await allIsWell(all);
  });
}

test('a publish that is caught by a silent Redis is answered within the command timeout', async (t) => {
  const all = await setUp(t);
  await all.redis.pause();
  const [answer, ms] = await timed(() => tryPublish(all.server, 'caught'));
  assert.equal(answer.status, 503);
  assert.ok(Number(answer.headers['retry-after']) > 0);
  assert.ok(ms < TIMEOUT_MS + 1000, `answered after ${Math.round(ms)} ms`);
  all.redis.resume();
  await allIsWell(all);
});

for (const [what, which] of [['subscribers', 'pubsub'], ['everyone else', 'normal']]) {
  test(`CLIENT KILL of ${what}, again and again under load: nobody misses a message`, async (t) => {
    const all = await setUp(t);
    let stop = false;
    let sent = 0;
    const publishing = (async () => {
      while (!stop) await publishSurely(all.server, 'a', `m${sent++}`);
    })();
    for (let i = 0; i < 8; i++) {
      const before = sent;
      await all.redis.cli('CLIENT', 'KILL', 'TYPE', which, 'SKIPME', 'yes');
      await until(() => sent >= before + 20, 'publishing goes on');
    }
    stop = true;
    await publishing;
    await allIsWell(all);
  });
}

test('an output buffer that Redis finds too large and drops: nobody misses a message', async (t) => {
  const all = await setUp(t);
  await all.redis.cli('CONFIG', 'SET', 'client-output-buffer-limit', 'pubsub 256kb 0 0');
  all.relay.stall(SUBSCRIBERS);
  const subscribed = async () => (await all.redis.cli('CLIENT', 'LIST', 'TYPE', 'PUBSUB')).split('\n').filter(Boolean).length;
  // The relay and the kernel hold some megabytes as well.
  await until(async () => {
    await publishMany(all.server, 'a', Array.from({ length: 16 }, () => 'x'.repeat(60000)));
    return /overcoming of output buffer limits/.test(all.redis.log) || (await subscribed()) === 0;
  }, 'Redis drops the subscriber');
  all.relay.restore();
  await allIsWell(all);
});

for (const [what, breakIt, mendIt] of [
  ['full', (redis) => redis.cli('CONFIG', 'SET', 'maxmemory', 1), (redis) => redis.cli('CONFIG', 'SET', 'maxmemory', 0)],
  ['read-only', (redis) => redis.cli('CONFIG', 'SET', 'min-replicas-to-write', 1), (redis) => redis.cli('CONFIG', 'SET', 'min-replicas-to-write', 0)],
]) {
  test(`Redis is ${what}: not ready, publishing is refused and told to retry; nothing else suffers`, async (t) => {
    const all = await setUp(t);
    await noticed(all.server, () => breakIt(all.redis));
    await refusedAtOnce(all.server);
    assert.equal((await wholeHistory(all.server, 'a')).length, 2, 'reading goes on');
    await mendIt(all.redis);
    await untilReady(all.server);
    await publish(all.server, 'a', 'again');
    await allIsWell(all);
  });
}

test('ready means ready: under load it stays', async (t) => {
  const all = await setUp(t);
  const ws = await openWs(t, all.server);
  let answered = 0;
  const N = 20000;
  ws.socket.on('message', () => answered++);
  const asking = (async () => {
    while (answered < N) assert.equal(await readyStatus(all.server), 200);
  })();
  for (let i = 0; i < N; i++) {
    ws.send({ op: 'publish', channel: i % 20 ? `other ${i % 20}`.replace(' ', '') : 'a', data: i, ref: i });
    if (i % 500 === 499) await until(() => answered >= i - 1000, 'the answers keep up');
  }
  await until(() => answered >= N, 'all are answered');
  await asking;
  await allIsWell(all);
});

test('who comes while Redis is away gets what is published after', async (t) => {
  const all = await setUp(t);
  await noticed(all.server, () => all.redis.kill9());
  const late = TRANSPORTS.map((transport) => new Follower([all.server], transport, ['a'], {}));
  for (const client of late) atEnd(t, () => client.leave());
  const followed = Promise.all(late.map((client) => client.follow('the end')));
  await all.redis.restart();
  await untilReady(all.server);
  await until(() => late.every((client) => client.listener), 'they are there');
  await publishSurely(all.server, 'a', 'after');
  await allIsWell(all);
  await followed;
  const order = (await wholeHistory(all.server, 'a')).map((m) => m.id);
  for (const client of late) {
    assert.deepEqual(client.gaps('a'), [], client.transport);
    assert.deepEqual(client.ids('a'), order.slice(-client.ids('a').length), client.transport);
    assert.ok(client.ids('a').length >= 2, client.transport);
  }
});

test('numbers are enough: 2,000 channels are listened to again after Redis was away', async (t) => {
  const all = await setUp(t);
  const channels = numbered('c', 2000);
  const sockets = await Promise.all(Array.from({ length: 20 }, () => openWs(t, all.server)));
  for (const [i, ws] of sockets.entries()) for (const channel of channels.slice(i * 100, i * 100 + 100)) assert.equal((await ws.command({ op: 'subscribe', channel })).op, 'ok');
  await noticed(all.server, () => all.redis.kill9());
  await all.redis.restart();
  await untilReady(all.server);
  for (const channel of channels) await publishSurely(all.server, channel, `to ${channel}`);
  for (const [i, ws] of sockets.entries()) assert.deepEqual((await ws.take(100)).map((m) => m.data), channels.slice(i * 100, i * 100 + 100).map((c) => `to ${c}`));
  await allIsWell(all);
});
