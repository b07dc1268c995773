// What others write into the Redis that crier uses, and what a confused server answers: clients get
// what is in order, the log says what is not, and the process goes on.

import assert from 'node:assert/strict';
import net from 'node:net';
import test from 'node:test';
import { get, query, request } from './lib/http.js';
import { publishSurely, startInstance, startInstances, untilNotReady, untilReady } from './lib/instances.js';
import { freePort } from './lib/process.js';
import { startRedis } from './lib/redis.js';
import { dataThrough, listen, TRANSPORTS } from './lib/transports.js';
import { atEnd, until } from './lib/wait.js';

const publish = (server, channel, body) => request(server, `/publish?${query({ channel })}`, { method: 'POST', headers: { 'Content-Type': 'text/plain' }, body });
const historyOf = (server, channel, parameters = {}) => get(server, `/api/channels/${channel}/history?${query(parameters)}`);
const dataOf = (answer) => answer.json().messages.map((m) => m.data);
const lists = async (server) => (await get(server, '/api/channels')).json().channels.map((c) => c.channel);

// Between crier and Redis: what Redis says goes through proxy.tamper as text.
async function tampering(t, redis) {
  const proxy = { port: await freePort(), tamper: (text) => text };
  const sockets = new Set();
  const server = net.createServer((near) => {
    const far = net.connect(redis.port, '127.0.0.1');
    for (const [from, to] of [[near, far], [far, near]]) {
      sockets.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => to.destroy());
    }
    near.on('data', (d) => far.write(d));
    far.on('data', (d) => near.write(Buffer.from(proxy.tamper(d.toString('latin1')), 'latin1')));
  });
  await new Promise((done) => server.listen(proxy.port, '127.0.0.1', done));
  atEnd(t, () => {
    for (const s of sockets) s.destroy();
    server.close();
  });
  proxy.url = `redis://127.0.0.1:${proxy.port}`;
  return proxy;
}

test('names in the registry that are none are left out', async (t) => {
  const redis = await startRedis(t);
  const [server] = await startInstances(t, 1, redis);
  await listen(t, server, 'sse', ['here']);
  const soon = Date.now() + 60000;
  await redis.cli('ZADD', 'crier:{#}:instances', soon, 'stranger');
  for (const name of ['x'.repeat(20000), '', 'two words', '"', 'there']) {
    await redis.cli('ZADD', 'crier:{#}:names:stranger', 0, name);
    await redis.cli('HSET', 'crier:{#}:counts:stranger', name, 3);
  }
  assert.deepEqual(await lists(server), ['here', 'there']);
  await until(() => server.events('redis_bad_name').some((f) => f.name.startsWith('xxx')), 'the log says so');
  await server.stop();
});

test('a list of channels costs Redis as many calls as there are instances, not as their channels', async (t) => {
  const redis = await startRedis(t);
  const [server] = await startInstances(t, 1, redis);
  const soon = Date.now() + 60000;
  for (let i = 0; i < 20; i++) {
    await redis.cli('ZADD', 'crier:{#}:instances', soon, `i${i}`);
    const names = Array.from({ length: 50 }, (_, k) => [`c${k}-${i}`, k % 5 ? undefined : `all${k}`]).flat().filter(Boolean);
    await redis.cli('ZADD', `crier:{#}:names:i${i}`, ...names.flatMap((name) => [0, name]));
    await redis.cli('HSET', `crier:{#}:counts:i${i}`, ...names.flatMap((name) => [name, 2]));
  }
  const calls = async () => {
    const { hget = 0, hmget = 0 } = await redis.commandStats();
    return hget + hmget;
  };
  const before = await calls();
  const { channels, more } = (await get(server, '/api/channels?limit=12')).json();
  assert.deepEqual([channels.length, more], [12, true]);
  assert.deepEqual(channels.slice(0, 11).map((c) => [c.channel, c.subscribers]), [...[0, 10, 15, 20, 25, 30, 35, 40, 45, 5].map((k) => [`all${k}`, 40]), ['c0-0', 2]]);
  const asked = (await calls()) - before;
  assert.ok(asked <= 20 + channels.length, `${asked} calls`);
  await server.stop();
});

test('an epoch that is said to end beyond its order is not believed', async (t) => {
  const redis = await startRedis(t);
  const [server] = await startInstances(t, 1, redis);
  const { id } = (await publish(server, 'a', 'one')).json();
  const forged = `${id.slice(0, 4)}AAABNPo`; // offset 1000 of epoch 77
  for (const line of ['77:1000000 ', '77:1000000! ', '77:1 78:0 ', 'nonsense']) {
    await redis.cli('HSET', 'crier:{a}:m', 'line', line);
    for (const parameters of [{ since: forged }, { since: forged, reverse: 1 }, { since: forged, limit: 1 }])
      assert.equal((await historyOf(server, 'a', parameters)).status, 503, line);
  }
  await until(() => server.events('redis_bad_reply').length > 0, 'the log says so');
  await redis.cli('HDEL', 'crier:{a}:m', 'line');
  assert.deepEqual(dataOf(await historyOf(server, 'a')), ['one']);
  await server.stop();
});

test('records that no publisher may send reach nobody', async (t) => {
  const redis = await startRedis(t);
  const [server] = await startInstances(t, 1, redis);
  const listeners = await Promise.all(TRANSPORTS.map((transport) => listen(t, server, transport, ['a'])));
  await publish(server, 'a', 'one');
  const [epoch] = await redis.cli('HMGET', 'crier:{a}:m', 'epoch');
  const bodies = ['t + 0000000000000000 0 11 0\nx\ndata: evilhi', 't + 0000000000000000 0 9 0\ncrier.gaphi', 'j + 0000000000000000 0 0 0\n1},{"op":"close"', 'hello'];
  for (const body of bodies) await redis.cli('PUBLISH', 'crier:{a}', `${epoch} 2 ${Date.now()} ${epoch} ${body}`);
  await redis.cli('PUBLISH', 'crier:{a}', `${epoch} 18446744073709551614 ${Date.now()} ${epoch} t + 0000000000000000 0 0 0\nfar`);
  await publish(server, 'a', 'two');
  for (const listener of listeners) assert.deepEqual(await dataThrough(listener, 'two'), ['one', 'two']);
  await until(() => server.events('redis_bad_record').length > 0, 'the log says so');
  await redis.cli('XADD', 'crier:{a}:s', '3-0', 'm', `${epoch} 3 ${Date.now()} ${epoch} ${bodies[0]}`);
  assert.deepEqual(dataOf(await historyOf(server, 'a')), ['one', 'two']);
  await server.stop();
});

test('keys of other types fail what needs them, and nothing else', async (t) => {
  const redis = await startRedis(t);
  const [server] = await startInstances(t, 1, redis);
  await publish(server, 'b', 'x');
  await redis.cli('SET', 'crier:{a}:m', 'mine');
  await redis.cli('DEL', 'crier:{b}:s');
  await redis.cli('RPUSH', 'crier:{b}:s', 'mine');
  for (const channel of ['a', 'b']) {
    assert.equal((await publish(server, channel, 'x')).status, 503, channel);
    assert.equal((await historyOf(server, channel)).status, 503, channel);
  }
  await until(() => server.events('redis_refused').length > 0, 'the log says so');
  const [{ key, error }, ...more] = server.events('redis_refused');
  assert.deepEqual([key, /^WRONGTYPE/.test(error), more], ['crier:{a}:m', true, []]);
  assert.equal((await publish(server, 'c', 'x')).status, 200);
  assert.equal((await get(server, '/ready')).status, 200);
  await redis.cli('DEL', 'crier:{a}:m', 'crier:{b}:s');
  for (const channel of ['a', 'b']) assert.equal((await publish(server, channel, 'x')).status, 200, channel);
  await server.stop();
});

test('a server that removes the order for ever is asked no third time', async (t) => {
  const redis = await startRedis(t);
  const proxy = await tampering(t, redis);
  const server = await startInstance(t, proxy.url);
  await untilReady(server);
  let asked = 0;
  proxy.tamper = (text) => text.replace(/\$\d+\r\n\d+ \d+ \d+ \d+\r\n/, () => (asked++, '$5\r\nagain\r\n'));
  const answer = await publish(server, 'a', 'x');
  assert.deepEqual([answer.status, asked], [503, 2]);
  await server.stop();
});

test('channels that were not asked for are not answered', async (t) => {
  const redis = await startRedis(t);
  const proxy = await tampering(t, redis);
  const server = await startInstance(t, proxy.url);
  await untilReady(server);
  await redis.cli('ZADD', 'crier:{#}:instances', Date.now() + 60000, 'stranger');
  await redis.cli('ZADD', 'crier:{#}:names:stranger', 0, 'chat:room');
  await redis.cli('HSET', 'crier:{#}:counts:stranger', 'chat:room', 3);
  assert.deepEqual((await get(server, '/stats')).json().rooms, { room: 3 });
  proxy.tamper = (text) => text.replace('$9\r\nchat:room\r\n', '$1\r\nx\r\n');
  assert.deepEqual((await get(server, '/stats')).json().rooms, {});
  await server.stop();
});

test('a server that was away has refused nothing', async (t) => {
  const redis = await startRedis(t, { aof: true });
  const [server] = await startInstances(t, 1, redis);
  await redis.kill9();
  await untilNotReady(server);
  const since = (await server.stats()).uptime_seconds;
  await until(async () => (await server.stats()).uptime_seconds >= since + 3, 'a sign of life is due, every two seconds, and fails');
  await redis.start();
  const said = new Set();
  await until(async () => {
    const ready = await get(server, '/ready');
    if (ready.status === 200) return true;
    said.add(ready.json().reason);
    return false;
  }, 'it is ready again');
  assert.ok(![...said].some((reason) => /scripts/.test(reason)), [...said].join());
  assert.equal(server.events('redis_scripts_refused').length, 0);
  await publishSurely(server, 'a', 'x');
  await server.stop();
});
