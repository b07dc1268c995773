// Many Redis servers as one: Sentinel, Cluster, and shards. What is shown:
//
// | servers                 | what happens                                   | clients                                 |
// | ----------------------- | ---------------------------------------------- | --------------------------------------- |
// | Sentinel                | the master is killed or stopped under load     | goes on by itself; what is lost is told |
// | Sentinel                | its replica is behind when that happens        | everyone is told of a gap at that place |
// | Sentinel                | a sentinel is gone; passwords on both          | nothing                                 |
// | Cluster                 | slots move under load, there and back          | 0 lost, repeated or out of order        |
// | Cluster                 | a master is killed, its replica takes over     | goes on by itself; what is lost is told |
// | shards                  | one of three is killed                         | channels of the others go on            |
//
// "Told" is judged by checker.js: a client has a message, or it was told of a gap at that place. No id
// ever names two messages.

import assert from 'node:assert/strict';
import test from 'node:test';
import { makeCertificates } from './lib/certs.js';
import { judgeAnnounced, parts } from './lib/checker.js';
import { get, numbered, publish, query, request } from './lib/http.js';
import { publishSurely, readyStatus, startInstance, startInstances, untilNotReady, untilReady, wholeHistory } from './lib/instances.js';
import { Load } from './lib/load.js';
import { startCluster, slotOf } from './lib/redis-cluster.js';
import { startSentinels } from './lib/redis-sentinel.js';
import { startRedis } from './lib/redis.js';
import { listen, TRANSPORTS } from './lib/transports.js';
import { until } from './lib/wait.js';

const FLAGS = ['--history', '100000', '--outbox-messages', '100000', '--outbox-bytes', '64m', '--redis-timeout', '2s'];
const NOTICED_MS = 3000;

async function noticed(server, began) {
  await untilNotReady(server);
  const ms = Math.round(performance.now() - began);
  assert.ok(ms < NOTICED_MS, `/ready turned 503 after ${ms} ms`);
  return ms;
}

function report(t, load) {
  t.diagnostic(`${load.acknowledged} acknowledged, ${load.lost ?? 0} of them lost, ${load.gaps ?? 0} gaps told, ${load.excused ?? 0} messages missed with a gap; ` +
    `${load.deliveries} deliveries, ${load.broken} streams broken; refused: ${JSON.stringify(load.refusals)}; slowest publish ${Math.round(load.slowestPublish)} ms`);
}

async function judged(t, load) {
  await load.stop();
  await load.finish();
  const bad = await load.announced();
  report(t, load);
  load.assertNone(bad);
  assert.equal(load.broken, 0, 'streams stay open');
}

// --- Sentinel ---

const LOAD = { channels: 6, clients: 60, publishers: 9 };

test('Sentinel: the master is killed under load', async (t) => {
  const redis = await startSentinels(t);
  const servers = await startInstances(t, 3, redis, FLAGS);
  const load = await Load.start(t, servers, LOAD);
  await load.more(1500);
  for (let round = 0; round < 2; round++) {
    const old = await redis.master();
    const began = performance.now();
    await old.kill9();
    t.diagnostic(`not ready after ${await noticed(servers[0], began)} ms`);
    await redis.failedOver(old);
    await untilReady(...servers);
    t.diagnostic(`ready again after ${Math.round(performance.now() - began)} ms`);
    await load.more(1500);
    if (round === 1) break;
    await old.restart(); // as a replica, which the next round needs
    await redis.synced();
  }
  await judged(t, load);
});

test('Sentinel: the master is stopped, and comes back as one who knows nothing of it', async (t) => {
  const redis = await startSentinels(t);
  const servers = await startInstances(t, 3, redis, FLAGS);
  const load = await Load.start(t, servers, LOAD);
  await load.more(1500);
  const old = await redis.master();
  const began = performance.now();
  await old.pause();
  await noticed(servers[1], began);
  await redis.failedOver(old);
  await untilReady(...servers);
  await load.more(1000);
  old.resume();
  await load.more(1000);
  await redis.synced();
  await load.more(500);
  await judged(t, load);
});

for (const [how, end] of [['killed', (master) => master.kill9()], ['stopped', (master) => master.pause()]]) {
  test(`Sentinel: the replica is behind when the master is ${how}: everyone is told of a gap`, async (t) => {
    const redis = await startSentinels(t);
    const servers = await startInstances(t, 3, redis, FLAGS);
    const load = await Load.start(t, servers, LOAD);
    await load.more(1000);
    const old = await redis.master();
    const [replica] = await redis.replicas();
    await redis.cutReplication(replica);
    await load.more(1000);
    await end(old);
    await redis.failedOver(old);
    await untilReady(...servers);
    await load.more(1000);
    if (how === 'stopped') {
      old.resume(); // with what was acknowledged, and lost
      await redis.synced();
      await load.more(500);
    }
    await judged(t, load);
    assert.ok(load.lost > 500, `${load.lost} acknowledged messages were lost with the master`);
    for (const follower of load.followers)
      for (const channel of follower.channels) assert.ok(follower.gaps(channel).length >= 1, `${follower.transport} was told`);
  });
}

test('Sentinel: cursors of what is lost and of before are told of the loss, those of after are good', async (t) => {
  const redis = await startSentinels(t);
  const [here, there] = await startInstances(t, 2, redis);
  const ids = [];
  for (const data of ['1', '2', '3']) ids.push(await publish(here, 'a', data));
  await redis.synced();
  const old = await redis.master();
  await redis.cutReplication((await redis.replicas())[0]);
  for (const data of ['4', '5', '6']) ids.push(await publish(here, 'a', data));
  await old.kill9();
  await redis.failedOver(old);
  await untilReady(here, there);
  const more = [];
  for (const data of ['7', '8', '9', '10']) more.push((await publishSurely(there, 'a', data)).id);
  assert.equal(new Set([...ids, ...more]).size, 10);
  assert.deepEqual((await wholeHistory(here, 'a', { lossy: true })).map((m) => m.data), ['1', '2', '3', '7', '8', '9', '10']);
  for (const transport of TRANSPORTS) {
    for (const server of [here, there]) {
      const read = async (since) => {
        const listener = await listen(t, server, transport, ['a'], since);
        const out = [];
        for (let item; item?.data !== '10';) out.push((item = await listener.next()));
        return out.map((i) => i.gap?.reason ?? i.data);
      };
      assert.deepEqual(await read(ids[0]), ['2', '3', 'epoch', '7', '8', '9', '10'], 'of before: three were lost on the way');
      assert.deepEqual(await read(ids[2]), ['epoch', '7', '8', '9', '10'], 'of just before');
      assert.deepEqual(await read(ids[4]), ['epoch', '7', '8', '9', '10'], 'of what is lost');
      assert.deepEqual(await read(more[0]), ['8', '9', '10'], 'of after');
    }
  }
});

test('Sentinel: with passwords on both, and the first sentinel gone', async (t) => {
  const redis = await startSentinels(t, { password: 'of-redis', sentinelPassword: 'of-sentinel' });
  await redis.sentinels[0].kill9();
  const servers = await startInstances(t, 2, redis);
  const listener = await listen(t, servers[1], 'ws', ['a']);
  await publish(servers[0], 'a', 'x');
  assert.equal((await listener.next()).data, 'x');
  for (const server of servers) assert.doesNotMatch(server.stderr, /of-redis|of-sentinel/, 'no password in the log');
});

test('Sentinel: a name that no sentinel knows is said, and is not ready', async (t) => {
  const redis = await startSentinels(t, { replicas: 0, sentinels: 1 });
  const server = await startInstance(t, redis.url.replace(redis.name, 'nobody'));
  await until(() => /nobody/.test(server.stderr.split('\n').filter((l) => /level=(warn|error)/.test(l)).join('\n')), () => `the log names it: ${server.stderr}`);
  assert.equal(await readyStatus(server), 503);
  assert.equal((await get(server, '/health')).status, 200);
});

// Every instance knows how many listen at all of them.
async function countedByAll(t, servers, channels) {
  for (const [i, channel] of channels.entries()) await listen(t, servers[i % servers.length], 'ws', [channel]);
  const counts = async (server) => {
    const { channels: found } = (await get(server, `/api/channels?${query({ limit: 1000 })}`)).json();
    return channels.every((c) => found.find((f) => f.channel === c)?.subscribers === 1) && found.length === channels.length;
  };
  for (const server of servers) await until(() => counts(server), 'all channels are counted');
}

test('Sentinel over TLS', async (t) => {
  const tls = makeCertificates(t);
  const redis = await startSentinels(t, { tls });
  const servers = await startInstances(t, 2, redis, ['--redis-ca', tls.ca]);
  await publish(servers[0], 'a', 'x');
  assert.deepEqual((await wholeHistory(servers[1], 'a')).map((m) => m.data), ['x']);
  const old = await redis.master();
  await redis.synced();
  await old.kill9();
  await redis.failedOver(old);
  await untilReady(...servers);
  await publishSurely(servers[1], 'a', 'y');
  assert.deepEqual((await wholeHistory(servers[0], 'a')).map((m) => m.data), ['x', 'y']);
});

// --- Cluster ---

test('Cluster over TLS, with a password', async (t) => {
  const tls = makeCertificates(t);
  const redis = await startCluster(t, 3, 0, { tls, password: 'of-redis' });
  const servers = await startInstances(t, 2, redis, ['--redis-ca', tls.ca]);
  const channels = numbered('c', 12);
  const listener = await listen(t, servers[1], 'sse', channels);
  for (const channel of channels) {
    await publish(servers[0], channel, `to ${channel}`);
    assert.equal((await listener.next()).data, `to ${channel}`);
  }
  for (const server of servers) assert.doesNotMatch(server.stderr, /of-redis/, 'no password in the log');
});

test('Cluster: channels of all slots are one server, over sharded pub/sub', async (t) => {
  const redis = await startCluster(t, 3);
  const servers = await startInstances(t, 3, redis, FLAGS);
  const load = await Load.start(t, servers, { channels: 30, clients: 60, publishers: 9, perClient: 5, messages: 3000 });
  await load.finish();
  const bad = await load.complete();
  report(t, load);
  load.assertNone(bad);
  await countedByAll(t, servers, load.channels);
  for (const node of redis.masters) {
    const stats = await node.commandStats();
    assert.ok(stats.evalsha > 0 && stats.spublish > 0, `every node has its part: ${JSON.stringify(stats)}`);
    assert.ok((await node.cli('PUBSUB', 'SHARDCHANNELS')).length > 0);
  }
});

test('Cluster: one seed is enough, and it may be the wrong node for everything', async (t) => {
  const redis = await startCluster(t, 3);
  for (const node of redis.masters) {
    const [server] = await startInstances(t, 1, `redis+cluster://${node.host}`);
    for (const channel of numbered('c', 12)) {
      const listener = await listen(t, server, 'ws', [channel]);
      await publish(server, channel, node.host);
      assert.equal((await listener.next()).data, node.host);
    }
  }
});

test('Cluster: slots move under load, there and back: nothing is lost', async (t) => {
  const redis = await startCluster(t, 3);
  const servers = await startInstances(t, 3, redis, FLAGS);
  const load = await Load.start(t, servers, LOAD);
  await load.more(600);
  for (let round = 0; round < 2; round++) {
    for (const channel of load.channels) {
      const slot = slotOf(channel);
      const from = await redis.ownerOf(slot);
      const to = redis.masters[(redis.masters.indexOf(from) + 1) % 3];
      const moved = await redis.moveSlot(slot, from, to, { midway: () => load.more(150) });
      assert.ok(moved > 0, 'there were keys to move');
      await load.more(150);
      assert.equal(await redis.ownerOf(slot), to);
    }
  }
  await untilReady(...servers);
  await load.stop();
  await load.finish();
  const bad = await load.complete();
  report(t, load);
  load.assertNone(bad);
  assert.equal(load.broken, 0, 'streams stay open');
});

test('Cluster: a master is killed and its replica takes over', async (t) => {
  const redis = await startCluster(t, 3, 3);
  const servers = await startInstances(t, 3, redis, FLAGS);
  const load = await Load.start(t, servers, LOAD);
  await load.more(1500);
  const old = await redis.ownerOf(slotOf(load.channels[0]));
  const began = performance.now();
  await old.kill9();
  t.diagnostic(`not ready after ${await noticed(servers[0], began)} ms`);
  await untilReady(...servers);
  t.diagnostic(`ready again after ${Math.round(performance.now() - began)} ms`);
  await load.more(1500);
  await old.restart();
  await load.more(500);
  await judged(t, load);
});

// --- shards ---

async function startShards(t, n) {
  const shards = [];
  for (let i = 0; i < n; i++) shards.push(await startRedis(t, { aof: true }));
  return shards;
}
const urlsOf = (shards) => shards.map((s) => s.url).join(',');

async function shardOf(shards, channel) {
  for (const shard of shards) if (await shard.cli('EXISTS', `crier:{${channel}}:s`)) return shard;
  return undefined;
}

test('shards: channels are spread over all servers, the same way whatever order they are named in', async (t) => {
  const shards = await startShards(t, 3);
  const [here] = await startInstances(t, 1, urlsOf(shards));
  const [there] = await startInstances(t, 1, urlsOf([shards[2], shards[0], shards[1]]));
  const channels = numbered('c', 60);
  const counts = new Map(shards.map((s) => [s, 0]));
  const listener = await listen(t, there, 'ws', channels);
  for (const channel of channels) {
    const id = await publish(here, channel, `to ${channel}`);
    assert.equal((await listener.next()).id, id);
    assert.deepEqual((await wholeHistory(there, channel)).map((m) => m.id), [id]);
    const shard = await shardOf(shards, channel);
    counts.set(shard, counts.get(shard) + 1);
  }
  for (const n of counts.values()) assert.ok(n >= 8, `spread ${[...counts.values()]}`);
  await listener.close();
  await countedByAll(t, [here, there], channels);
});

test('shards: one of three is killed: channels of the others go on, its own come back', async (t) => {
  const shards = await startShards(t, 3);
  const servers = await startInstances(t, 2, urlsOf(shards), FLAGS);
  const channels = numbered('c', 12);
  const load = await Load.start(t, servers, { channels, clients: 36, publishers: 4, messages: 1200 });
  await load.publishing;
  const dead = await shardOf(shards, channels[0]);
  const at = new Map();
  for (const channel of channels) at.set(channel, await shardOf(shards, channel));
  const began = performance.now();
  await dead.kill9();
  await noticed(servers[0], began);
  for (const channel of channels) {
    const since = performance.now();
    const answer = await request(servers[1], `/publish?${query({ channel })}`, { method: 'POST', headers: { 'Idempotency-Key': `meanwhile-${channel}` }, body: 'meanwhile' });
    assert.equal(answer.status, at.get(channel) === dead ? 503 : 200, channel);
    assert.ok(performance.now() - since < 500, 'at once');
    if (answer.status === 200) {
      load.publishers[0].acknowledged.get(channel).push(answer.json().id);
      const heard = () => load.followers.filter((f) => f.channels.includes(channel)).every((f) => f.ids(channel).at(-1) === answer.json().id);
      await until(heard, `everybody hears ${channel}`);
    }
  }
  await dead.restart();
  await untilReady(...servers);
  await load.finish();
  load.assertNone(await load.complete());
  assert.equal(load.broken, 0, 'streams stay open');
});

// --- the judge ---

test('the judge tells what was announced from what was not', () => {
  const DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
  const id = (epoch, offset) => `ABCDAAAA${DIGITS[epoch]}${DIGITS[offset]}`;
  assert.deepEqual(parts(id(2, 9)), { tag: 'ABCD', epoch: 2, offset: 9 });
  const one = (from, to) => numbered('', to - from + 1, from).map((n) => id(1, Number(n)));
  const two = (from, to) => numbered('', to - from + 1, from).map((n) => id(2, Number(n)));
  const gap = { gap: { reason: 'epoch' } };
  // Messages 4 and 5 of the first epoch were acknowledged, and lost in a failover.
  const order = [...one(1, 3), ...two(4, 7)];
  const acknowledged = [...one(1, 5), ...two(4, 7)];
  const rank = (epoch) => epoch;
  const faults = (record, all = acknowledged) => judgeAnnounced(order, all, record, rank).faults.map((f) => f.fault);
  assert.deepEqual(faults([...one(1, 5), gap, ...two(4, 7)]), []);
  assert.deepEqual(faults([...one(1, 4), gap, ...two(4, 7)]), [], 'not even heard of the last one');
  assert.deepEqual(faults([...one(1, 3), gap, ...two(4, 7)]), []);
  assert.equal(judgeAnnounced(order, acknowledged, [...one(1, 3), gap, ...two(4, 7)], rank).excused, 2);
  assert.deepEqual(faults([...one(1, 5), gap, ...two(6, 7)]), [], 'live only after the gap');
  assert.deepEqual(faults([...one(1, 5), ...two(4, 7)]), ['unannounced']);
  assert.deepEqual(faults([...one(1, 3), ...two(4, 7)]), ['lost unannounced', 'lost unannounced']);
  assert.deepEqual(faults([...one(1, 2), gap, ...one(3, 3), ...two(4, 7)]), ['lost unannounced', 'lost unannounced'], 'a gap elsewhere is no excuse');
  const late = { gap: { reason: 'epoch', since: id(1, 3), cursor: id(2, 6) } };
  assert.deepEqual(faults([...one(1, 3), ...two(4, 6), late, ...two(7, 7)]), [], 'found and told later, for its place');
  assert.deepEqual(faults([...one(1, 5), gap, ...two(4, 4), ...two(6, 7)]), ['lost']);
  assert.deepEqual(faults([...one(1, 5), gap, ...two(4, 6)]), ['lost'], 'the end');
  assert.deepEqual(faults([...one(1, 5), gap, ...two(4, 5), ...two(5, 7)]), ['repeated', 'reordered']);
  assert.deepEqual(faults([...one(2, 5), gap, ...two(4, 7)]), ['lost']);
  assert.deepEqual(faults([...order], order), []);
  // All of the first epoch was lost in a flush; offsets begin again.
  const flushed = (record) => judgeAnnounced(two(1, 7), [...one(1, 5), ...two(1, 7)], record, rank).faults.map((f) => f.fault);
  assert.deepEqual(flushed([...one(1, 5), gap, ...two(1, 7)]), []);
  assert.deepEqual(flushed([...one(1, 3), gap, ...two(1, 7)]), []);
  assert.deepEqual(flushed([...one(1, 5), ...two(1, 7)]), ['unannounced']);
  assert.deepEqual(flushed([...one(1, 5), gap, ...two(1, 2), ...two(4, 7)]), ['lost']);
  assert.deepEqual(flushed([...two(1, 2), gap, ...two(3, 7)]).length, 5);
});
