// 1,000 messages to 300 clients over all transports, judged client by client; and again
// while they disconnect, resume and change transport at random.

import assert from 'node:assert/strict';
import test from 'node:test';
import { judge } from './lib/checker.js';
import { numbered, publishMany } from './lib/http.js';
import { random, SEED } from './lib/random.js';
import { startServer } from './lib/server.js';
import { ALL_TRANSPORTS, CODED_TRANSPORTS, listen } from './lib/transports.js';

const CLIENTS = 300;
const MESSAGES = 1000;
// The timeout is not what is tested, and 300 clients in one busy process may take their time.
const FLAGS = ['--workers', '2', '--history', '2000', '--pack-threshold', '0', '--request-timeout', '1m'];
const OVER = [...ALL_TRANSPORTS, ...CODED_TRANSPORTS];

// Batches of changing size, one after the other: the order is that of the answers.
async function publishAll(server, rnd) {
  const ids = [];
  while (ids.length < MESSAGES) {
    const n = Math.min(MESSAGES - ids.length, 1 + Math.floor(rnd() * 25));
    ids.push(...(await publishMany(server, 'a', numbered('message ', n, ids.length))));
  }
  return ids;
}

function verdict(published, clients) {
  const bad = clients
    .map((c, i) => ({ client: i, over: c.path, faults: judge(published, c.received) }))
    .filter((c) => c.faults.length);
  assert.equal(bad.length, 0, `seed ${SEED}: ${bad.length} clients: ${JSON.stringify(bad[0])}`);
}

async function connectAll(t, server) {
  const clients = [];
  for (let i = 0; i < CLIENTS; i++) clients.push({ received: [], path: [OVER[i % OVER.length]], listener: await listen(t, server, OVER[i % OVER.length], ['a']) });
  return clients;
}

async function take(client) {
  const item = await client.listener.next();
  assert.equal(item.gap, undefined, `an unexpected gap: ${JSON.stringify(item.gap)}`);
  client.received.push(item.id);
}

test('every client is complete, in order, without repeats', async (t) => {
  const server = await startServer(t, FLAGS);
  const clients = await connectAll(t, server);
  const reading = clients.map(async (client) => {
    while (client.received.length < MESSAGES) await take(client);
  });
  const published = await publishAll(server, random(SEED));
  await Promise.all(reading);
  verdict(published, clients);
});

test('the same while they disconnect, resume and change transport at random', async (t) => {
  const server = await startServer(t, FLAGS);
  const clients = await connectAll(t, server);
  let changes = 0;
  const reading = clients.map(async (client, i) => {
    const rnd = random(SEED + i);
    while (client.received.length < MESSAGES) {
      const until = Math.min(MESSAGES, client.received.length + 1 + Math.floor(rnd() * 250));
      while (client.received.length < until) await take(client);
      if (until === MESSAGES) break;
      // What the transport had handed over, but the client not yet taken, is lost with it: only
      // the cursor of what was taken counts.
      const cursor = client.received.at(-1);
      await client.listener.close();
      const transport = OVER[Math.floor(rnd() * OVER.length)];
      client.listener = await listen(t, server, transport, ['a'], cursor);
      client.path.push(transport);
      changes++;
    }
  });
  const published = await publishAll(server, random(SEED));
  await Promise.all(reading);
  verdict(published, clients);
  assert.ok(changes > CLIENTS, `${changes} reconnects`);
  t.diagnostic(`${CLIENTS * MESSAGES} deliveries, ${changes} reconnects, seed ${SEED}`);
});

test('the judge finds a lost, a repeated, a swapped and an unknown message', () => {
  const published = numbered('id', 10);
  const without = (i) => published.filter((_, k) => k !== i);
  assert.deepEqual(judge(published, published), []);
  assert.deepEqual(judge([], []), []);
  for (const i of [0, 4, 9]) assert.deepEqual(judge(published, without(i)), [{ fault: 'lost', id: `id${i}`, at: i }]);
  for (const i of [0, 4, 9]) {
    const doubled = [...published.slice(0, i + 1), published[i], ...published.slice(i + 1)];
    assert.deepEqual(judge(published, doubled), [{ fault: 'repeated', id: `id${i}`, at: i + 1 }]);
  }
  const swapped = [...published];
  [swapped[3], swapped[4]] = [swapped[4], swapped[3]];
  assert.deepEqual(judge(published, swapped), [{ fault: 'reordered', id: 'id3', at: 4 }]);
  const late = [...without(0), published[0]];
  assert.deepEqual(judge(published, late), [{ fault: 'reordered', id: 'id0', at: 9 }]);
  assert.deepEqual(judge(published, [...published, 'stranger']), [{ fault: 'unknown', id: 'stranger', at: 10 }]);
  assert.equal(judge(published, []).length, 10);
});
