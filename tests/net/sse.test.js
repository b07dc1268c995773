// GET /events: the bytes of the stream, its control events, its parameters.

import assert from 'node:assert/strict';
import test from 'node:test';
import { get, publish, query, request } from './lib/http.js';
import { rawConnect } from './lib/raw.js';
import { startServer } from './lib/server.js';
import { openSse } from './lib/sse.js';

const CURSOR = '[0-9A-Za-z._~-]{1,128}';
const CLIENT = 'c[0-9A-Za-z_-]{11}';

// Everything the stream says up to the event with this data.
async function bodyThrough(stream, data) {
  await stream.events.upTo((e) => e.data === data, data);
  return stream.body;
}

test('the stream begins at once with retry, a comment and crier.ready', async (t) => {
  const server = await startServer(t);
  const stream = await openSse(t, server, { channel: 'news' });
  assert.equal(stream.head.status, 200);
  assert.equal(stream.head.headers['content-type'], 'text/event-stream; charset=utf-8');
  assert.equal(stream.head.headers['cache-control'], 'no-store, no-transform');
  assert.equal(stream.head.headers['x-accel-buffering'], 'no');
  assert.match(stream.head.headers.vary, /\bOrigin\b/);
  assert.equal(stream.head.headers['content-length'], undefined);
  const ready = await stream.ready();
  const expected = `retry: 2000\n: crier\n\nevent: crier.ready\nid: ${ready.cursor}\n` +
    `data: {"client":"${ready.client}","cursor":"${ready.cursor}","channels":[{"channel":"news","cursor":"${ready.cursor}"}]}\n\n`;
  assert.equal(stream.body, expected);
  assert.match(ready.cursor, new RegExp(`^${CURSOR}$`));
  assert.match(ready.client, new RegExp(`^${CLIENT}$`));
});

test('retry: says what --sse-retry says', async (t) => {
  const server = await startServer(t, ['--sse-retry', '7s']);
  const stream = await openSse(t, server, { channel: 'a' });
  await stream.ready();
  assert.ok(stream.body.startsWith('retry: 7000\n'), stream.body);
});

test('ready names every channel, in the order of the query, and the cursors joined', async (t) => {
  const server = await startServer(t);
  const stream = await openSse(t, server, { channel: ['b', 'a', 'c', 'a'] });
  const ready = await stream.ready();
  assert.deepEqual(ready.channels.map((c) => c.channel), ['b', 'a', 'c']);
  assert.equal(ready.cursor, ready.channels.map((c) => c.cursor).join('~'));
  assert.equal(ready.id, ready.cursor);
});

test('a raw message is id: and data:, byte for byte', async (t) => {
  const server = await startServer(t);
  const stream = await openSse(t, server, { channel: 'a' });
  await stream.ready();
  const before = stream.body.length;
  const id = await publish(server, 'a', 'hello');
  await bodyThrough(stream, 'hello');
  assert.equal(stream.body.slice(before), `id: ${id}\ndata: hello\n\n`);
});

test('the publisher\'s event name stands in event:', async (t) => {
  const server = await startServer(t);
  const stream = await openSse(t, server, { channel: 'a' });
  await stream.ready();
  const before = stream.body.length;
  const id = await publish(server, 'a', 'hello', { event: 'greeting' });
  await bodyThrough(stream, 'hello');
  assert.equal(stream.body.slice(before), `id: ${id}\nevent: greeting\ndata: hello\n\n`);
});

for (const [what, body, lines] of [
  ['CR', 'a\rb', ['a', 'b']],
  ['LF', 'a\nb', ['a', 'b']],
  ['CRLF', 'a\r\nb', ['a', 'b']],
  ['all of them and empty lines', 'a\rb\nc\r\nd\n\r\re', ['a', 'b', 'c', 'd', '', '', 'e']],
  ['a line end at the end', 'a\n', ['a', '']],
  ['a field name within', 'x\nid: evil\nevent: evil', ['x', 'id: evil', 'event: evil']],
  ['a leading space', ' a', [' a']],
  ['nothing', '', ['']],
  ['UTF-8', 'Grüße, 世界 🔔', ['Grüße, 世界 🔔']],
]) {
  test(`a message with ${what} is cut into data: lines`, async (t) => {
    const server = await startServer(t);
    const stream = await openSse(t, server, { channel: 'a' });
    await stream.ready();
    const before = stream.body.length;
    const id = await publish(server, 'a', body);
    await publish(server, 'a', 'fence');
    await bodyThrough(stream, 'fence');
    const message = `id: ${id}\n${lines.map((l) => `data: ${l}\n`).join('')}\n`;
    assert.equal(stream.body.slice(before, before + message.length), message);
  });
}

test('JSON goes out as it came, spaces, order and number forms included', async (t) => {
  const server = await startServer(t);
  const stream = await openSse(t, server, { channel: 'a' });
  await stream.ready();
  const body = '{ "b" : 1.0e3,\t"a":[ 1,2 ],"b":"\\u00e9" }';
  await publish(server, 'a', body, { type: 'application/json' });
  assert.equal((await stream.events.next()).data, body);
});

test('a binary message is one line of base64', async (t) => {
  const server = await startServer(t);
  const stream = await openSse(t, server, { channel: 'a' });
  await stream.ready();
  const bytes = Buffer.from([0, 255, 10, 13, 200, 1]);
  await publish(server, 'a', bytes, { type: 'application/octet-stream' });
  assert.equal((await stream.events.next()).data, bytes.toString('base64'));
});

test('format=json: id: and the envelope, no event:', async (t) => {
  const server = await startServer(t);
  const stream = await openSse(t, server, { channel: 'a', format: 'json' });
  await stream.ready();
  const before = stream.body.length;
  const id = await publish(server, 'a', '{"x": [1, 2]}', { event: 'tick', type: 'application/json' });
  const event = await stream.events.next();
  const { time } = JSON.parse(event.data);
  assert.equal(
    stream.body.slice(before),
    `id: ${id}\ndata: {"channel":"a","id":"${id}","event":"tick","data":{"x": [1, 2]},"time":${time}}\n\n`,
  );
  assert.ok(Math.abs(time - Date.now()) < 60000, `time is in milliseconds: ${time}`);
});

test('format=json: a JSON message with line ends stays one event', async (t) => {
  const server = await startServer(t);
  const stream = await openSse(t, server, { channel: 'a', format: 'json' });
  await stream.ready();
  await publish(server, 'a', '{\r\n "x":\r 1,\n "y": 2\n}', { type: 'application/json' });
  assert.deepEqual(JSON.parse((await stream.events.next()).data).data, { x: 1, y: 2 });
});

test('format=json: text, and binary with its encoding', async (t) => {
  const server = await startServer(t);
  const stream = await openSse(t, server, { channel: 'a', format: 'json' });
  await stream.ready();
  await publish(server, 'a', 'a "quoted"\nline\u0001\u2028');
  await publish(server, 'a', Buffer.from([1, 2, 254]), { type: 'image/png' });
  const [text, binary] = (await stream.events.take(2)).map((e) => JSON.parse(e.data));
  assert.equal(text.data, 'a "quoted"\nline\u0001\u2028');
  assert.equal('encoding' in text, false);
  assert.equal('event' in text, false);
  assert.equal(binary.data, Buffer.from([1, 2, 254]).toString('base64'));
  assert.equal(binary.encoding, 'base64');
});

test('the id of a message covers all channels of the stream', async (t) => {
  const server = await startServer(t);
  const stream = await openSse(t, server, { channel: ['a', 'b'] });
  await stream.ready();
  await publish(server, 'a', 'a1');
  await publish(server, 'b', 'b1');
  await publish(server, 'a', 'a2');
  const [, second] = await stream.events.take(2);
  assert.equal(second.data, 'b1');
  const resumed = await openSse(t, server, { channel: ['a', 'b'], since: second.id });
  await resumed.ready();
  assert.equal((await resumed.events.next()).data, 'a2');
  await publish(server, 'b', 'fence');
  assert.equal((await resumed.events.next()).data, 'fence');
});

test('when nothing was sent for a while: a comment line and an empty line', async (t) => {
  const server = await startServer(t, ['--sse-keepalive', '300ms']);
  const stream = await openSse(t, server, { channel: 'a' });
  await stream.ready();
  const before = stream.body.length;
  await stream.items.upTo((i) => i.comment === '', 'the keep-alive');
  await stream.items.upTo((i) => i.comment === '', 'the next keep-alive');
  await publish(server, 'a', 'x');
  await bodyThrough(stream, 'x');
  assert.match(stream.body.slice(before), /^(:\n\n){2,}id: \S+\ndata: x\n\n$/);
});

test('padding=1 begins with a comment of 2 KiB', async (t) => {
  const server = await startServer(t);
  const stream = await openSse(t, server, { channel: 'a', padding: 1 });
  await stream.ready();
  const [first] = stream.body.split('\n');
  assert.ok(first.startsWith(':'));
  assert.ok(first.length >= 2040 && first.length <= 2060, `${first.length} bytes`);
  assert.match(stream.body.slice(first.length), /^\n+retry: 2000\n: crier\n\nevent: crier\.ready\n/);
});

test('history=N begins with the last N kept messages', async (t) => {
  const server = await startServer(t);
  const ids = [];
  for (const text of ['1', '2', '3', '4']) ids.push(await publish(server, 'a', text));
  const stream = await openSse(t, server, { channel: 'a', history: 2 });
  const ready = await stream.ready();
  assert.equal(ready.cursor, ids[1], 'ready is where the stream starts');
  assert.deepEqual((await stream.events.take(2)).map((e) => e.data), ['3', '4']);
  await publish(server, 'a', '5');
  assert.equal((await stream.events.next()).data, '5');
  const all = await openSse(t, server, { channel: 'a', history: 100000 });
  await all.ready();
  assert.deepEqual((await all.events.take(5)).map((e) => e.data), ['1', '2', '3', '4', '5']);
  const none = await openSse(t, server, { channel: 'a', history: 0 });
  await none.ready();
  await publish(server, 'a', '6');
  assert.equal((await none.events.next()).data, '6');
});

test('since outranks history', async (t) => {
  const server = await startServer(t);
  const ids = [];
  for (const text of ['1', '2', '3', '4']) ids.push(await publish(server, 'a', text));
  const stream = await openSse(t, server, { channel: 'a', history: 4, since: ids[2] });
  await stream.ready();
  assert.equal((await stream.events.next()).data, '4');
});

for (const name of ['since', 'last_event_id', 'lastEventID']) {
  test(`the cursor may stand in ${name}`, async (t) => {
    const server = await startServer(t);
    const first = await publish(server, 'a', '1');
    await publish(server, 'a', '2');
    const stream = await openSse(t, server, { channel: 'a', [name]: first });
    assert.equal((await stream.ready()).cursor, first);
    assert.equal((await stream.events.next()).data, '2');
  });
}

test('Last-Event-ID comes before since', async (t) => {
  const server = await startServer(t);
  const [first, second] = [await publish(server, 'a', '1'), await publish(server, 'a', '2')];
  await publish(server, 'a', '3');
  const stream = await openSse(t, server, { channel: 'a', since: first }, { headers: { 'Last-Event-ID': second } });
  await stream.ready();
  assert.equal((await stream.events.next()).data, '3');
});

test('an empty since or Last-Event-ID counts as absent', async (t) => {
  const server = await startServer(t);
  const first = await publish(server, 'a', '1');
  await publish(server, 'a', '2');
  const live = await openSse(t, server, 'channel=a&since=');
  await live.ready();
  const fallsBack = await openSse(t, server, { channel: 'a', since: first }, { headers: { 'Last-Event-ID': '' } });
  await fallsBack.ready();
  assert.equal((await fallsBack.events.next()).data, '2');
  await publish(server, 'a', '3');
  assert.equal((await live.events.next()).data, '3');
});

test('a gap: ready has no id, the gap has it, then what is kept', async (t) => {
  const server = await startServer(t, ['--history', '3']);
  const ids = [];
  for (let i = 0; i < 8; i++) ids.push(await publish(server, 'a', `m${i}`));
  const stream = await openSse(t, server, { channel: 'a', since: ids[0] });
  const ready = await stream.ready();
  assert.equal(ready.id, undefined);
  const event = await stream.events.next();
  assert.equal(event.event, 'crier.gap');
  assert.equal(event.id, ids[4]);
  assert.equal(event.data, `{"channel":"a","reason":"expired","since":"${ids[0]}","cursor":"${ids[4]}"}`);
  assert.ok(stream.body.includes(`event: crier.gap\nid: ${ids[4]}\ndata: ${event.data}\n\n`), stream.body);
  assert.deepEqual((await stream.events.take(3)).map((e) => e.data), ['m5', 'm6', 'm7']);
});

test('several gaps: only the last has the id, over all channels', async (t) => {
  const server = await startServer(t, ['--history', '1']);
  const cursors = {};
  for (const channel of ['a', 'b', 'c']) {
    cursors[channel] = await publish(server, channel, 'first');
    await publish(server, channel, 'second');
    if (channel !== 'b') await publish(server, channel, 'third');
  }
  const stream = await openSse(t, server, { channel: ['a', 'b', 'c'], since: `${cursors.a}~${cursors.b}~${cursors.c}` });
  const ready = await stream.ready();
  assert.equal(ready.id, undefined);
  const gaps = [await stream.gap(), await stream.gap()];
  assert.deepEqual(gaps.map((g) => [g.channel, g.reason]), [['a', 'expired'], ['c', 'expired']]);
  assert.equal(gaps[0].id, undefined);
  assert.equal(gaps[1].id.split('~').length, 3);
  const messages = await stream.events.take(3);
  assert.deepEqual(messages.map((m) => m.data).sort(), ['second', 'third', 'third']);
  const again = await openSse(t, server, { channel: ['a', 'b', 'c'] }, { headers: { 'Last-Event-ID': gaps[1].id } });
  assert.ok((await again.ready()).id, 'the id of the gap can be honoured');
});

test('unknown parameters and token are ignored', async (t) => {
  const server = await startServer(t);
  const stream = await openSse(t, server, { channel: 'a', token: 'anything', colour: 'blue', _: 1 });
  assert.equal(stream.head.status, 200);
  await stream.ready();
});

test('32 channels are accepted, repeats count once, 33 are not', async (t) => {
  const server = await startServer(t);
  const names = Array.from({ length: 33 }, (_, i) => `c${i}`);
  const stream = await openSse(t, server, { channel: [...names.slice(0, 32), 'c0', 'c1'] });
  assert.equal((await stream.ready()).channels.length, 32);
  const refused = await get(server, `/events?${query({ channel: names })}`);
  assert.equal(refused.status, 400);
  assert.equal(refused.json().code, 'too_many_channels');
});

test('the cursor of 8 channels has at most 128 bytes', async (t) => {
  const server = await startServer(t);
  const names = Array.from({ length: 8 }, (_, i) => `c${i}`);
  const stream = await openSse(t, server, { channel: names });
  assert.ok((await stream.ready()).id.length <= 128);
});

test('every allowed byte of a channel name, percent-encoded or not', async (t) => {
  const server = await startServer(t);
  const name = 'ns:aZ09_.:@=+,~!-/x';
  const stream = await openSse(t, server, { channel: name });
  assert.equal((await stream.ready()).channels[0].channel, name);
  const plain = await openSse(t, server, 'channel=ns:aZ09_.:@=%2B,~!-/x');
  assert.equal((await plain.ready()).channels[0].channel, name);
  await publish(server, name, 'x');
  assert.equal((await stream.events.next()).data, 'x');
  assert.equal((await plain.events.next()).data, 'x');
});

test('a wrong method gets 405 with Allow', async (t) => {
  const server = await startServer(t);
  const answer = await request(server, '/events?channel=a', { method: 'POST', body: 'x' });
  assert.equal(answer.status, 405);
  assert.match(answer.headers.allow, /\bGET\b/);
  assert.equal(answer.json().code, 'method_not_allowed');
});

test('a client that leaves is forgotten', async (t) => {
  const server = await startServer(t);
  const streams = [];
  for (let i = 0; i < 5; i++) streams.push(await openSse(t, server, { channel: 'a' }));
  for (const stream of streams) await stream.ready();
  await server.connected({ sse: 5 });
  for (const stream of streams) stream.close();
  await server.connected({ sse: 0 });
});

test('a client that says FIN only is forgotten too', async (t) => {
  const server = await startServer(t);
  const raw = await rawConnect(t, server, { allowHalfOpen: true });
  raw.send(`GET /events?channel=a HTTP/1.1\r\nHost: ${server.host}\r\n\r\n`);
  await raw.through('crier.ready');
  await server.connected({ sse: 1 });
  raw.socket.end();
  await server.connected({ sse: 0 });
});
