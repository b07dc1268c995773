// More connections than allowed: new streams are told to come back, those that are open stay.

import assert from 'node:assert/strict';
import test from 'node:test';
import { get, publish } from './lib/http.js';
import { startServer } from './lib/server.js';
import { openSse } from './lib/sse.js';
import { openWs, refusedWs } from './lib/wsclient.js';

test('a full server: EventSource gets 200, retry: and the end; the others 503 with Retry-After', async (t) => {
  const LIMIT = 20;
  const server = await startServer(t, ['--max-connections', String(LIMIT), '--sse-retry', '1s']);
  const ws = await openWs(t, server, '/ws?channel=a');
  const streams = [];
  for (;;) {
    const stream = await openSse(t, server, { channel: 'a' });
    const first = await stream.events.next().catch(() => null);
    if (!first) break;
    streams.push(stream);
    assert.ok(streams.length < LIMIT + 1, 'it never says that it is full');
  }
  assert.ok(streams.length >= LIMIT / 2, `full with ${streams.length} streams`);
  // Fill up what the last ones freed while they moved out of the HTTP parser.
  while ((await server.stats()).total_connections < LIMIT) streams.push(await openSse(t, server, { channel: 'a' }));
  await server.connected({ ws: 1, sse: LIMIT - 1 });

  const refused = async () => Number(/^crier_refused_total\{reason="overload"\} (\d+)$/m.exec((await get(server, '/metrics')).text)[1]);
  const before = await refused();
  const retries = new Set();
  for (let i = 0; i < 8; i++) {
    const events = await get(server, '/events?channel=a');
    assert.equal(events.status, 200);
    assert.match(events.headers['content-type'], /^text\/event-stream/);
    const [, ms] = /^retry: (\d+)\n\n$/.exec(events.text);
    assert.ok(Number(ms) > 0);
    retries.add(ms);
  }
  assert.ok(retries.size > 1, 'jittered');

  const poll = await get(server, '/poll?channel=a');
  const socket = await refusedWs(server, '/ws?channel=a');
  for (const answer of [poll, socket]) {
    assert.deepEqual([answer.status, answer.json().code], [503, 'overloaded']);
    assert.match(answer.headers['retry-after'], /^\d+$/);
  }
  assert.equal((await refused()) - before, 10, 'every one turned away is counted, whatever it was answered');
  assert.equal((await get(server, '/health')).status, 200, 'short requests are still answered');

  await publish(server, 'a', 'still here');
  const heard = await streams[0].events.upTo((e) => e.event === 'message');
  assert.equal(heard.pop().data, 'still here');
  assert.equal((await ws.next()).data, 'still here');
  for (const stream of streams) stream.close();
  await server.connected({ sse: 0 });
  const again = await openSse(t, server, { channel: 'a' });
  await again.ready();
});
