// GET /poll: answers, batches, cursors, and clients that leave.

import assert from 'node:assert/strict';
import test from 'node:test';
import { get, history, numbered, publish, publishMany, request } from './lib/http.js';
import { poll, pollAnswer, Poller } from './lib/poll.js';
import { rawConnect } from './lib/raw.js';
import { startServer } from './lib/server.js';
import { until } from './lib/wait.js';

test('without a cursor the answer comes at once, with the present one', async (t) => {
  const server = await startServer(t);
  const id = await publish(server, 'a', '1');
  const answer = await pollAnswer(server, { channel: 'a', timeout: 55 });
  assert.equal(answer.status, 200);
  assert.match(answer.headers['content-type'], /^application\/json/);
  assert.match(answer.headers['cache-control'], /no-store/);
  assert.match(answer.headers.vary, /\bOrigin\b/);
  assert.equal(answer.text.trim(), `{"cursor":"${id}","messages":[],"gaps":[]}`);
});

test('nothing is lost between the first two polls', async (t) => {
  const server = await startServer(t);
  const poller = new Poller(server, 'a');
  await poller.once();
  const id = await publish(server, 'a', 'between');
  const { messages } = await poller.once();
  assert.deepEqual(messages.map((m) => [m.id, m.data]), [[id, 'between']]);
});

test('history=N without a cursor gives the last N at once', async (t) => {
  const server = await startServer(t);
  const ids = await publishMany(server, 'a', ['1', '2', '3']);
  const answer = await poll(server, { channel: 'a', history: 2 });
  assert.deepEqual(answer.messages.map((m) => m.data), ['2', '3']);
  assert.equal(answer.cursor, ids[2]);
  assert.deepEqual(answer.gaps, []);
});

test('history on a channel that never was answers at once too', async (t) => {
  const server = await startServer(t);
  const answer = await poll(server, { channel: 'silent', history: 5, timeout: 55 });
  assert.deepEqual(answer.messages, []);
  assert.ok(answer.cursor);
});

test('a waiting poll is answered with the first message', async (t) => {
  const server = await startServer(t);
  const { cursor } = await poll(server, { channel: 'a' });
  const waiting = pollAnswer(server, { channel: 'a', since: cursor, timeout: 55 });
  await server.connected({ poll: 1 });
  const id = await publish(server, 'a', '{"n": 1}', { type: 'application/json', event: 'tick' });
  const answer = await waiting;
  const { time } = answer.json().messages[0];
  assert.equal(
    answer.text.trim(),
    `{"cursor":"${id}","messages":[{"channel":"a","id":"${id}","event":"tick","data":{"n": 1},"time":${time}}],"gaps":[]}`,
  );
});

test('an empty answer at the timeout keeps the cursor good', async (t) => {
  const server = await startServer(t);
  const { cursor } = await poll(server, { channel: 'a' });
  const began = Date.now();
  const answer = await poll(server, { channel: 'a', since: cursor, timeout: 1 });
  assert.ok(Date.now() - began >= 900, 'it waited');
  assert.deepEqual(answer.messages, []);
  assert.deepEqual(answer.gaps, []);
  const id = await publish(server, 'a', 'x');
  const next = await poll(server, { channel: 'a', since: answer.cursor });
  assert.equal(next.messages[0].id, id);
});

test('timeout=0 asks and goes', async (t) => {
  const server = await startServer(t);
  const { cursor } = await poll(server, { channel: 'a' });
  const answer = await poll(server, { channel: 'a', since: cursor, timeout: 0 });
  assert.deepEqual(answer, { cursor, messages: [], gaps: [] });
});

test('limit cuts batches, and the cursors of the answers join without loss', async (t) => {
  const server = await startServer(t, ['--history', '1000']);
  const { cursor } = await poll(server, { channel: 'a' });
  await publishMany(server, 'a', numbered('m', 250));
  const poller = new Poller(server, 'a', cursor);
  assert.equal((await poller.once()).messages.length, 100, 'the default is 100');
  assert.equal((await poller.once({ limit: 1 })).messages.length, 1);
  assert.equal((await poller.once({ limit: 7 })).messages.length, 7);
  assert.equal((await poller.once({ limit: 1000 })).messages.length, 142);
  assert.deepEqual(poller.messages.map((m) => m.data), numbered('m', 250));
});

test('a response that was lost is got again by repeating the poll', async (t) => {
  const server = await startServer(t);
  const { cursor } = await poll(server, { channel: 'a' });
  await publishMany(server, 'a', ['1', '2']);
  const first = await poll(server, { channel: 'a', since: cursor });
  const again = await poll(server, { channel: 'a', since: cursor });
  assert.deepEqual(again, first);
  assert.equal(again.messages.length, 2);
});

test('several channels: one cursor, envelopes name their channel', async (t) => {
  const server = await startServer(t);
  const first = await poll(server, { channel: ['a', 'b', 'a'] });
  assert.equal(first.cursor.split('~').length, 2);
  const [a, b] = [await publish(server, 'a', 'x'), await publish(server, 'b', 'y')];
  const answer = await poll(server, { channel: ['a', 'b'], since: first.cursor });
  assert.deepEqual(answer.messages.map((m) => [m.channel, m.id]).sort(), [['a', a], ['b', b]]);
  await publish(server, 'b', 'z');
  const next = await poll(server, { channel: ['a', 'b'], since: answer.cursor });
  assert.deepEqual(next.messages.map((m) => m.data), ['z']);
});

test('cursors of single channels may be joined by the client', async (t) => {
  const server = await startServer(t);
  const [a] = await publishMany(server, 'a', ['a1', 'a2']);
  const [, b] = await publishMany(server, 'b', ['b1', 'b2']);
  const answer = await poll(server, { channel: ['a', 'b'], since: `${b}~${a}` });
  assert.deepEqual(answer.messages.map((m) => m.data), ['a2']);
  assert.deepEqual(answer.gaps, []);
});

test('a gap answers at once, with what is kept', async (t) => {
  const server = await startServer(t, ['--history', '2']);
  const ids = await publishMany(server, 'a', ['1', '2', '3', '4', '5']);
  const answer = await poll(server, { channel: 'a', since: ids[0], timeout: 55 });
  assert.deepEqual(answer.gaps, [{ channel: 'a', reason: 'expired', since: ids[0], cursor: ids[2] }]);
  assert.deepEqual(answer.messages.map((m) => m.data), ['4', '5']);
  assert.equal(answer.cursor, ids[4]);
});

test('a gap without messages answers at once too', async (t) => {
  const server = await startServer(t);
  const foreign = await publish(server, 'other', 'x');
  const answer = await poll(server, { channel: 'a', since: foreign, timeout: 55 });
  assert.deepEqual(answer.messages, []);
  assert.equal(answer.gaps.length, 1);
  assert.equal(answer.gaps[0].reason, 'no_position');
  assert.equal('since' in answer.gaps[0], false);
  const next = await poll(server, { channel: 'a', since: answer.cursor, timeout: 0 });
  assert.deepEqual(next.gaps, [], 'it is said once');
});

test('many polls wait for one message', async (t) => {
  const server = await startServer(t, ['--workers', '2']);
  const { cursor } = await poll(server, { channel: 'a' });
  const waiting = Array.from({ length: 60 }, () => poll(server, { channel: 'a', since: cursor, timeout: 55 }));
  await server.connected({ poll: 60 });
  const id = await publish(server, 'a', 'x');
  for (const answer of await Promise.all(waiting)) assert.deepEqual(answer.messages.map((m) => m.id), [id]);
  await server.connected({ poll: 0 });
});

test('a client that leaves while it waits is freed', async (t) => {
  const server = await startServer(t);
  const { cursor } = await poll(server, { channel: 'a' });
  const raws = [];
  for (let i = 0; i < 10; i++) {
    const raw = await rawConnect(t, server);
    raw.send(`GET /poll?channel=a&since=${cursor}&timeout=55 HTTP/1.1\r\nHost: ${server.host}\r\n\r\n`);
    raws.push(raw);
  }
  await server.connected({ poll: 10 });
  raws.forEach((raw, i) => (i % 2 ? raw.socket.resetAndDestroy() : raw.socket.end()));
  await server.connected({ poll: 0 });
  assert.equal((await get(server, '/api/channels')).json().channels.length, 0, 'nobody listens any more');
  const id = await publish(server, 'a', 'x');
  assert.equal((await poll(server, { channel: 'a', since: cursor })).messages[0].id, id);
});

test('a connection carries poll after poll', async (t) => {
  const server = await startServer(t);
  const raw = await rawConnect(t, server);
  let cursor = '';
  for (let i = 0; i < 5; i++) {
    raw.send(`GET /poll?channel=a${cursor && `&since=${cursor}`}&timeout=55 HTTP/1.1\r\nHost: ${server.host}\r\n\r\n`);
    if (cursor) {
      await server.connected({ poll: 1 });
      await publish(server, 'a', `m${i}`);
    }
    const answer = (await raw.answer()).json();
    assert.deepEqual(answer.messages.map((m) => m.data), cursor ? [`m${i}`] : []);
    cursor = answer.cursor;
  }
});

test('fetch reads it', async (t) => {
  const server = await startServer(t);
  const first = await (await fetch(server.url('/poll?channel=a'))).json();
  const abort = new AbortController();
  const aborted = fetch(server.url(`/poll?channel=a&since=${first.cursor}&timeout=55`), { signal: abort.signal });
  await server.connected({ poll: 1 });
  abort.abort();
  await assert.rejects(aborted, { name: 'AbortError' });
  await server.connected({ poll: 0 });
  const waiting = fetch(server.url(`/poll?channel=a&since=${first.cursor}&timeout=55`));
  await server.connected({ poll: 1 });
  await publish(server, 'a', 'hello');
  assert.deepEqual((await (await waiting).json()).messages.map((m) => m.data), ['hello']);
});

test('the answer of a poll is what history says', async (t) => {
  const server = await startServer(t);
  const { cursor } = await poll(server, { channel: 'a' });
  await publish(server, 'a', Buffer.from([0, 1, 255]), { type: 'application/octet-stream', event: 'blob' });
  await publish(server, 'a', 'text');
  const { messages } = await poll(server, { channel: 'a', since: cursor });
  assert.equal(messages[0].encoding, 'base64');
  assert.deepEqual(messages, (await history(server, 'a')).messages);
});

test('a wrong method gets 405', async (t) => {
  const server = await startServer(t);
  const answer = await request(server, '/poll?channel=a', { method: 'DELETE' });
  assert.equal(answer.status, 405);
  assert.match(answer.headers.allow, /\bGET\b/);
});

test('a waiting poll is counted while it waits, and only then', async (t) => {
  const server = await startServer(t);
  const { cursor } = await poll(server, { channel: 'a' });
  const waiting = poll(server, { channel: 'a', since: cursor, timeout: 1 });
  await server.connected({ poll: 1 });
  await waiting;
  await until(async () => (await server.stats()).connections.poll === 0, 'no poll waits');
});
