// Three instances, clients on the three transports, publishers that insist, and a Redis that is
// killed, stopped and cut off again and again. What is shown, judged client by client:
//
// | what is done                                                    | acknowledged messages          |
// | --------------------------------------------------------------- | ------------------------------ |
// | kill -9 of Redis (appendfsync always) ten times, its subscribe   | 0 lost, 0 repeated, 0 out of   |
// | links cut and stalled, Redis stopped for a second                | order, no gap, no stream ended |
// | kill -9 of an instance as well, its clients resume at the others | the same                       |
// | Redis is flushed, or comes back without its last writes (what a  | lost, and everyone is told of  |
// | crash of its host does with appendfsync everysec)               | a gap at that place            |
// | the same without catch-up (CRIER_TEST_NO_CATCH_UP)               | lost: the judge finds it       |
//
// CRIER_TEST_SEED chooses the order of what is done.

import assert from 'node:assert/strict';
import test from 'node:test';
import { buildVariant, readyStatus, startInstances, untilReady } from './lib/instances.js';
import { Load } from './lib/load.js';
import { random, SEED, shuffled } from './lib/random.js';
import { startRedis } from './lib/redis.js';
import { startRelay, SUBSCRIBERS } from './lib/relay.js';
import { pause, until } from './lib/wait.js';

const FLAGS = ['--history', '100000', '--outbox-messages', '100000', '--outbox-bytes', '64m', '--redis-timeout', '2s'];

// What is done, by name; each leaves everything in working order.
const DEEDS = {
  kill: async ({ redis }) => {
    await redis.kill9();
    await redis.restart();
  },
  cut: ({ relay }) => until(() => relay.cut(SUBSCRIBERS) > 0, 'there are subscribe links'),
  'cut all': async ({ relay }) => relay.cut(),
  flush: ({ redis }) => redis.cli('FLUSHALL'),
  forget: ({ redis }) => redis.forgetSince(),
  stop: async ({ redis }) => {
    await redis.pause();
    await pause(1000); // this is what is being done, not a wait for something
    redis.resume();
  },
  stall: async ({ relay, servers }) => {
    relay.stall(SUBSCRIBERS);
    await until(async () => (await Promise.all(servers.filter((s) => !s.exited).map(readyStatus))).includes(503), 'an instance notices the stall', 5000);
    relay.restore();
  },
};

const times = (deeds) => Object.entries(deeds).flatMap(([name, n]) => Array(n).fill(name));

async function setUp(t, { bin, ...load }) {
  const redis = await startRedis(t, { aof: 'always' });
  const relay = await startRelay(t, redis);
  const servers = await startInstances(t, 3, relay, FLAGS, bin ? { bin } : {});
  return { redis, relay, servers, load: await Load.start(t, servers, load) };
}

// Spreads the deeds over the run: the next one comes when enough was acknowledged since the last,
// and while it is being done publishing goes on, but not further than to the one after.
async function trouble(t, all, deeds) {
  const order = shuffled(times(deeds), random(SEED));
  const step = Math.floor(all.load.messages / (order.length + 1));
  for (const [i, name] of order.entries()) {
    all.load.allow(step * (i + 2));
    await all.load.reached(step * (i + 1));
    await (DEEDS[name] ?? all[name])(all);
  }
  all.load.allow(Infinity);
  await all.load.publishing;
  await untilReady(...all.servers.filter((s) => !s.exited));
  await all.load.finish();
}

function report(t, load) {
  t.diagnostic(`${load.acknowledged} acknowledged, ${load.deliveries} deliveries, ${load.broken} streams broken; refused: ${JSON.stringify(load.refusals)}; slowest publish ${Math.round(load.slowestPublish)} ms; seed ${SEED}`);
}

test('Redis is killed ten times and its links cut and stalled: nothing lost, repeated or out of order', async (t) => {
  const all = await setUp(t, { messages: 20000, clients: 300 });
  await trouble(t, all, { kill: 10, cut: 6, 'cut all': 2, stop: 3, stall: 3 });
  report(t, all.load);
  all.load.assertNone(await all.load.complete());
  assert.equal(all.load.broken, 0, 'every stream stayed open');
});

test('an instance is killed as well: its clients resume at the others', async (t) => {
  const all = await setUp(t, { messages: 6000, clients: 300 });
  all.crash = () => all.servers[1].crash();
  await trouble(t, all, { crash: 1, kill: 3, cut: 3 });
  report(t, all.load);
  all.load.assertNone(await all.load.complete());
  assert.ok(all.load.broken > 0, 'clients had to resume');
});

for (const [what, deeds] of [
  ['comes back without its last writes', { forget: 5, kill: 2, cut: 3, stall: 1 }],
  ['is flushed', { flush: 5, kill: 2, cut: 3, stall: 1 }],
]) {
  test(`Redis ${what} under load: every loss is announced`, async (t) => {
    const all = await setUp(t, { messages: 6000, clients: 90 });
    await trouble(t, all, deeds);
    const bad = await all.load.announced();
    report(t, all.load);
    t.diagnostic(`${all.load.lost} acknowledged messages were lost; ${all.load.gaps} gaps told, ${all.load.excused} messages missed with a gap, ${all.load.missed} of them kept`);
    all.load.assertNone(bad);
    assert.ok(all.load.lost > 0);
    assert.equal(all.load.broken, 0, 'every stream stayed open');
  });
}

test('without catch-up the judge finds what is lost', async (t) => {
  const bin = buildVariant('no-catch-up', 'CRIER_TEST_NO_CATCH_UP');
  const all = await setUp(t, { bin, messages: 2000, clients: 30 });
  await trouble(t, all, { kill: 2, cut: 8 });
  report(t, all.load);
  const faults = (await all.load.complete()).flatMap((record) => record.faults);
  assert.ok(faults.length > 0, 'faults are found');
  assert.ok(faults.some((f) => f.fault === 'lost'), JSON.stringify(faults[0]));
  t.diagnostic(`${faults.length} faults named`);
});
