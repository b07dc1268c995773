// GET /ws?format=raw: bare payloads both ways.

import assert from 'node:assert/strict';
import test from 'node:test';
import { get, history, numbered, publish, publishMany } from './lib/http.js';
import { startServer } from './lib/server.js';
import { openWs, refusedWs } from './lib/wsclient.js';

test('frames are the payloads: text as text, JSON as text, binary as binary', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server, '/ws?channel=a&format=raw');
  await publish(server, 'a', 'héllo');
  await publish(server, 'a', '{ "x": 1 }', { type: 'application/json' });
  await publish(server, 'a', Buffer.from([0, 200, 255]), { type: 'application/octet-stream' });
  assert.deepEqual(await ws.frames.take(3), ['héllo', '{ "x": 1 }', Buffer.from([0, 200, 255])]);
});

test('what it sends is published: text, JSON when it is an object or array, binary', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server, '/ws?channel=a&format=raw');
  for (const frame of ['text', '{"x": 1}', '[1, 2]', '"string"', '42', '{broken', Buffer.from([255, 0])]) ws.send(frame);
  const heard = await ws.frames.take(7);
  assert.deepEqual(heard, ['text', '{"x": 1}', '[1, 2]', '"string"', '42', '{broken', Buffer.from([255, 0])]);
  const { messages } = await history(server, 'a');
  assert.deepEqual(messages.map((m) => m.data), ['text', { x: 1 }, [1, 2], '"string"', '42', '{broken', '/wA=']);
  assert.equal(messages[6].encoding, 'base64');
  assert.match(messages[0].client, /^c[0-9A-Za-z_-]{11}$/);
});

test('nothing is said that is not a message', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server, '/ws?channel=chat:x&format=raw');
  const other = await openWs(t, server, '/ws?channel=chat:x');
  await other.close();
  await publish(server, 'chat:x', 'fence');
  const frames = await ws.frames.upTo((f) => f === 'fence');
  // A chat room's own notices are messages; control objects (op) are not.
  for (const frame of frames.slice(0, -1)) assert.equal('op' in JSON.parse(frame), false, frame);
});

test('exactly one channel', async (t) => {
  const server = await startServer(t);
  const none = await refusedWs(server, '/ws?format=raw');
  assert.deepEqual([none.status, none.json().code], [400, 'missing_channel']);
  const two = await refusedWs(server, '/ws?format=raw&channel=a&channel=b');
  assert.deepEqual([two.status, two.json().code], [400, 'too_many_channels']);
  await openWs(t, server, '/ws?format=raw&channel=a&channel=a');
});

test('since and history as elsewhere', async (t) => {
  const server = await startServer(t);
  const ids = await publishMany(server, 'a', ['1', '2', '3']);
  const resumed = await openWs(t, server, `/ws?format=raw&channel=a&since=${ids[1]}`);
  assert.equal(await resumed.frames.next(), '3');
  const last = await openWs(t, server, '/ws?format=raw&channel=a&history=2');
  assert.deepEqual(await last.frames.take(2), ['2', '3']);
});

for (const [reason, make, rest] of [
  ['expired', (ids) => ids[0], ['m4', 'm5', 'live']],
  ['ahead', (ids) => `${ids[5]}0`, ['live']], // all of the same order was received
]) {
  test(`a cursor that is ${reason} closes with 4003`, async (t) => {
    const server = await startServer(t, ['--history', '2']);
    const ids = await publishMany(server, 'a', numbered('m', 6));
    const ws = await openWs(t, server, `/ws?format=raw&channel=a&since=${make(ids)}`);
    const { code, reason: said } = await ws.closed;
    assert.equal(code, 4003);
    const [, why, cursor] = /^gap (\S+) (\S+)$/.exec(said) || [];
    assert.equal(why, reason);
    assert.deepEqual(ws.frames.items, [], 'no message came before');
    const again = await openWs(t, server, `/ws?format=raw&channel=a&since=${cursor}`);
    await publish(server, 'a', 'live');
    assert.deepEqual(await again.frames.take(rest.length), rest);
  });
}

test('a cursor of another channel closes with 4003, no_position', async (t) => {
  const server = await startServer(t);
  const foreign = await publish(server, 'b', 'x');
  const ws = await openWs(t, server, `/ws?format=raw&channel=a&since=${foreign}`);
  const { code, reason } = await ws.closed;
  assert.equal(code, 4003);
  assert.match(reason, /^gap no_position \S+$/);
});

test('too big is 1009', async (t) => {
  const server = await startServer(t, ['--max-message', '1k']);
  const ws = await openWs(t, server, '/ws?format=raw&channel=a');
  ws.send('x'.repeat(1024));
  assert.equal((await ws.frames.next()).length, 1024);
  ws.send('x'.repeat(1025));
  assert.equal((await ws.closed).code, 1009);
});

test('an unknown format is refused', async (t) => {
  const server = await startServer(t);
  const answer = await refusedWs(server, '/ws?channel=a&format=xml');
  assert.deepEqual([answer.status, answer.json().code], [400, 'bad_format']);
  assert.equal((await get(server, '/health')).status, 200);
});
