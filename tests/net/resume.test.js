// Cursors: from every transport to every transport, and the ones that cannot be honoured.

import assert from 'node:assert/strict';
import test from 'node:test';
import { EventSource } from 'eventsource';
import { history, numbered, publish, publishMany, request } from './lib/http.js';
import { startServer } from './lib/server.js';
import { ALL_TRANSPORTS, CODED_TRANSPORTS, dataThrough, listen } from './lib/transports.js';
import { atEnd, Queue } from './lib/wait.js';

// Each to each; the compressed ones, whose ids are made by the same code, from and to polls.
const goes = (from, to) => ![from, to].some((one) => CODED_TRANSPORTS.includes(one)) || [from, to].includes('poll');

for (const from of [...ALL_TRANSPORTS, ...CODED_TRANSPORTS])
  for (const to of [...ALL_TRANSPORTS, ...CODED_TRANSPORTS].filter((one) => goes(from, one))) {
    test(`a cursor of ${from} is good on ${to}: nothing lost, nothing twice`, async (t) => {
      const server = await startServer(t, ['--workers', '2', '--pack-threshold', '0']);
      const first = await listen(t, server, from, ['a']);
      await publishMany(server, 'a', ['1', '2']);
      assert.deepEqual(await dataThrough(first, '2'), ['1', '2']);
      await first.close();
      await publishMany(server, 'a', ['3', '4']);
      const second = await listen(t, server, to, ['a'], first.cursor);
      await publish(server, 'a', '5');
      assert.deepEqual(await dataThrough(second, '5'), ['3', '4', '5']);
      await second.close();
      await publish(server, 'a', '6');
      const third = await listen(t, server, from, ['a'], second.cursor);
      assert.deepEqual(await dataThrough(third, '6'), ['6']);
    });

    test(`a cursor over three channels goes from ${from} to ${to}`, async (t) => {
      const server = await startServer(t, ['--workers', '2', '--pack-threshold', '0']);
      const channels = ['a', 'chat:b', 'c/d'];
      const heard = { a: [], 'chat:b': [], 'c/d': [] };
      const note = async (listener, n) => {
        for (let i = 0; i < n; i++) {
          const m = await listener.next();
          assert.equal(m.gap, undefined, JSON.stringify(m));
          heard[m.channel].push(m.data);
        }
      };
      const first = await listen(t, server, from, channels);
      await publish(server, 'a', 'a1');
      await publish(server, 'c/d', 'c1');
      await publish(server, 'chat:b', 'b1');
      await publish(server, 'a', 'a2');
      await note(first, 4);
      await first.close();
      await publish(server, 'chat:b', 'b2');
      await publish(server, 'c/d', 'c2');
      const second = await listen(t, server, to, channels, first.cursor);
      await publish(server, 'a', 'a3');
      await note(second, 3);
      assert.deepEqual(heard, { a: ['a1', 'a2', 'a3'], 'chat:b': ['b1', 'b2'], 'c/d': ['c1', 'c2'] });
    });
  }

for (const transport of [...ALL_TRANSPORTS, ...CODED_TRANSPORTS]) {
  test(`${transport}: the id in an envelope is a cursor of its channel`, async (t) => {
    const server = await startServer(t);
    const ids = await publishMany(server, 'a', ['1', '2', '3']);
    const { messages } = await history(server, 'a');
    assert.deepEqual(messages.map((m) => m.id), ids);
    const listener = await listen(t, server, transport, ['a'], messages[0].id);
    assert.deepEqual(await dataThrough(listener, '3'), ['2', '3']);
  });

  test(`${transport}: the cursors of the answers to publish, joined, begin after both`, async (t) => {
    const server = await startServer(t);
    const a = await publish(server, 'a', 'a1');
    const b = await publish(server, 'b', 'b1');
    await publish(server, 'b', 'b2');
    const listener = await listen(t, server, transport, ['b', 'a'], `${a}~${b}`);
    assert.deepEqual(await dataThrough(listener, 'b2'), ['b2']);
    await publish(server, 'a', 'a2');
    assert.deepEqual(await dataThrough(listener, 'a2'), ['a2']);
  });

  test(`${transport}: an expired cursor is told, then everything kept, then live`, async (t) => {
    const server = await startServer(t, ['--history', '5']);
    const ids = await publishMany(server, 'a', numbered('m', 10));
    const listener = await listen(t, server, transport, ['a'], ids[1]);
    const first = await listener.next(); // a poll asks only now
    await publish(server, 'a', 'live');
    assert.deepEqual([first, ...(await dataThrough(listener, 'live'))], [
      { gap: { channel: 'a', reason: 'expired', since: ids[1], cursor: ids[4] } },
      'm5', 'm6', 'm7', 'm8', 'm9', 'live',
    ]);
    const edge = await listen(t, server, transport, ['a'], ids[5]);
    assert.deepEqual(await dataThrough(edge, 'live'), ['m6', 'm7', 'm8', 'm9', 'live'], 'the last that can be honoured');
  });

  test(`${transport}: a cursor beyond the newest message is told`, async (t) => {
    const server = await startServer(t);
    const ids = await publishMany(server, 'a', ['1', '2']);
    const ahead = `${ids[1]}0`; // offsets are digits, most significant first: 64 times as far
    const listener = await listen(t, server, transport, ['a'], ahead);
    const first = await listener.next(); // a poll asks only now
    await publish(server, 'a', 'live');
    assert.deepEqual([first, ...(await dataThrough(listener, 'live'))], [
      { gap: { channel: 'a', reason: 'ahead', since: ahead, cursor: ids[1] } }, 'live',
    ], 'all of the same order was received');
  });

  test(`${transport}: a cursor of an earlier run of the server is told`, async (t) => {
    const earlier = await startServer(t);
    const old = await publish(earlier, 'a', 'before');
    await earlier.stop();
    const server = await startServer(t, [], { port: earlier.port });
    await publish(server, 'a', 'kept');
    const listener = await listen(t, server, transport, ['a'], old);
    await publish(server, 'a', 'live');
    const items = await dataThrough(listener, 'live');
    assert.deepEqual(items.map((i) => i.gap?.reason ?? i), ['epoch', 'kept', 'live']);
    assert.equal(items[0].gap.since, old);
    const next = await listen(t, server, transport, ['a'], listener.cursor);
    await publish(server, 'a', 'more');
    assert.deepEqual(await dataThrough(next, 'more'), ['more'], 'said once');
  });

  test(`${transport}: a cursor of another channel is told, then live`, async (t) => {
    const server = await startServer(t);
    const foreign = await publish(server, 'b', 'x');
    const head = await publish(server, 'a', 'not asked for');
    const listener = await listen(t, server, transport, ['a'], foreign);
    let first;
    if (transport.endsWith('poll')) first = await listener.next(); // a poll subscribes with the answer
    await publish(server, 'a', 'live');
    first ??= await listener.next();
    assert.deepEqual(first, { gap: { channel: 'a', reason: 'no_position', cursor: head } });
    assert.deepEqual(await dataThrough(listener, 'live'), ['live']);
  });

  test(`${transport}: of two channels, the one without a position is told, the other resumes`, async (t) => {
    const server = await startServer(t);
    const ids = await publishMany(server, 'a', ['1', '2']);
    await publish(server, 'b', 'not asked for');
    const listener = await listen(t, server, transport, ['a', 'b'], ids[0]);
    const items = [await listener.next(), await listener.next()];
    assert.deepEqual(items.map((i) => (i.gap ? [i.gap.channel, i.gap.reason] : i.data)), [['b', 'no_position'], '2']);
  });

  test(`${transport}: a cleared history is told`, async (t) => {
    const server = await startServer(t);
    const ids = await publishMany(server, 'a', ['1', '2', '3']);
    await request(server, '/api/channels/a/history', { method: 'DELETE' });
    const listener = await listen(t, server, transport, ['a'], ids[0]);
    const { gap } = await listener.next();
    assert.deepEqual(gap, { channel: 'a', reason: 'expired', since: ids[0], cursor: ids[2] });
    await publish(server, 'a', 'live');
    assert.deepEqual(await dataThrough(listener, 'live'), ['live']);
  });

  test(`${transport}: the cursor of a silent channel is good when it speaks`, async (t) => {
    const server = await startServer(t);
    const first = await listen(t, server, transport, ['silent']);
    await first.close();
    await publish(server, 'silent', 'hello');
    const second = await listen(t, server, transport, ['silent'], first.cursor);
    assert.deepEqual(await dataThrough(second, 'hello'), ['hello']);
  });

  test(`${transport}: a channel that went quiet and was forgotten does not lie about it`, async (t) => {
    const server = await startServer(t, ['--history-age', '1s']);
    const ids = await publishMany(server, 'a', ['1', '2']);
    const gone = async () => (await request(server, '/api/channels/a')).status === 404;
    while (!(await gone())) await new Promise((done) => setTimeout(done, 50));
    const behind = await listen(t, server, transport, ['a'], ids[0]);
    const item = await behind.next();
    assert.ok(['expired', 'epoch'].includes(item.gap?.reason), JSON.stringify(item));
    await publish(server, 'a', 'live');
    assert.deepEqual(await dataThrough(behind, 'live'), ['live']);
  });
}

test('npm eventsource reconnects with Last-Event-ID after the server restarted, and is told', async (t) => {
  const first = await startServer(t, ['--sse-retry', '100ms']);
  const source = new EventSource(first.url('/events?channel=a'));
  atEnd(t, () => source.close());
  const seen = new Queue('the EventSource');
  source.addEventListener('crier.ready', (e) => seen.push(['ready', e.lastEventId]));
  source.addEventListener('crier.gap', (e) => seen.push(['gap', JSON.parse(e.data).reason]));
  source.addEventListener('message', (e) => seen.push([e.data, e.lastEventId]));
  assert.equal((await seen.next())[0], 'ready');
  const id = await publish(first, 'a', 'one');
  assert.deepEqual(await seen.next(), ['one', id]);
  await first.stop();
  const second = await startServer(t, ['--sse-retry', '100ms'], { port: first.port });
  const kept = await publish(second, 'a', 'two');
  const rest = await seen.upTo(([what]) => what === 'two');
  assert.deepEqual(rest.filter(([what]) => what !== 'ready'), [['gap', 'epoch'], ['two', kept]]);
});

test('a cursor that is malformed is refused on every transport', async (t) => {
  const server = await startServer(t);
  const good = await publish(server, 'a', 'x');
  for (const bad of ['!', 'x', 'a b', `${good}~`, `~${good}`, `${good}~~${good}`, good.slice(0, 9), `${good}${'0'.repeat(30)}`, '%00', good.replace(/^./, '.'), 'ä', '"']) {
    for (const path of ['/events', '/poll']) {
      const answer = await request(server, `${path}?channel=a&since=${encodeURIComponent(bad)}`);
      assert.deepEqual([answer.status, answer.json().code], [400, 'bad_cursor'], `${path} ${bad}`);
    }
  }
});
