// More than one worker: the same promises, whichever worker a client landed on.

import assert from 'node:assert/strict';
import test from 'node:test';
import { get, history, numbered, publish, publishMany } from './lib/http.js';
import { judge } from './lib/checker.js';
import { startServer } from './lib/server.js';
import { listen, TRANSPORTS } from './lib/transports.js';
import { openWs } from './lib/wsclient.js';

for (const workers of [1, 2, 4]) {
  test(`${workers} workers: everyone hears everything in one order, from many publishers`, async (t) => {
    const server = await startServer(t, ['--workers', String(workers), '--history', '2000']);
    const listeners = [];
    for (let i = 0; i < 24; i++) listeners.push(await listen(t, server, TRANSPORTS[i % 3], ['a', 'b']));
    const publishers = [];
    for (let i = 0; i < 6; i++) publishers.push(await openWs(t, server));
    const N = 40;
    const sent = publishers.map(async (ws, p) => {
      for (let i = 0; i < N; i++) {
        const answer = await ws.command({ op: 'publish', channel: i % 2 ? 'a' : 'b', data: `${p}.${i}` });
        assert.equal(answer.op, 'ok');
      }
    });
    await Promise.all(sent);
    const orders = {};
    for (const channel of ['a', 'b']) orders[channel] = (await history(server, channel, { limit: 1000 })).messages.map((m) => m.id);
    assert.equal(orders.a.length + orders.b.length, N * publishers.length);
    await Promise.all(listeners.map(async (listener) => {
      const heard = { a: [], b: [] };
      for (let i = 0; i < N * publishers.length; i++) {
        const m = await listener.next();
        heard[m.channel].push(m.id);
      }
      for (const channel of ['a', 'b']) assert.deepEqual(judge(orders[channel], heard[channel]), [], listener.transport);
    }));
  });

  test(`${workers} workers: what one publisher sent stays in its order`, async (t) => {
    const server = await startServer(t, ['--workers', String(workers), '--history', '2000']);
    const ws = await openWs(t, server);
    for (let i = 0; i < 500; i++) ws.send({ op: 'publish', channel: 'a', data: i, ref: i });
    const answers = await ws.take(500);
    assert.deepEqual(answers.map((m) => m.ref), Array.from({ length: 500 }, (_, i) => i));
    const { messages } = await history(server, 'a', { limit: 1000 });
    assert.deepEqual(messages.map((m) => m.data), Array.from({ length: 500 }, (_, i) => i));
  });
}

test('connections spread over the workers and are counted together', async (t) => {
  const server = await startServer(t, ['--workers', '4']);
  for (let i = 0; i < 20; i++) await openWs(t, server, '/ws?channel=a');
  await server.connected({ ws: 20 });
  for (let i = 0; i < 8; i++) assert.equal((await server.stats()).total_connections, 20, 'every worker says the same');
  assert.equal((await get(server, '/api/channels/a')).json().subscribers, 20);
});

test('join answers, leaves and live messages race without loss', async (t) => {
  const server = await startServer(t, ['--workers', '2', '--history', '5000']);
  let stop = false;
  const all = [];
  const publishing = (async () => {
    while (!stop) all.push(...(await publishMany(server, 'a', numbered('m', 10, all.length))));
  })();
  const joined = [];
  for (let i = 0; i < 60; i++) {
    const listener = await listen(t, server, TRANSPORTS[i % 3], ['a']);
    const first = await listener.next();
    const second = await listener.next();
    joined.push([first.id, second.id]);
    await listener.close();
  }
  stop = true;
  await publishing;
  for (const [first, second] of joined) assert.equal(all.indexOf(second), all.indexOf(first) + 1);
});

test('workers beyond what is sane are refused or served, never broken', async (t) => {
  const server = await startServer(t, ['--workers', '16']);
  await publish(server, 'a', 'x');
  assert.equal((await history(server, 'a')).messages.length, 1);
});
