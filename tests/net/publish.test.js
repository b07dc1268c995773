// POST /publish and POST /api/publish.

import assert from 'node:assert/strict';
import test from 'node:test';
import { get, history, numbered, postJson, publish, query, request } from './lib/http.js';
import { startServer } from './lib/server.js';
import { openSse } from './lib/sse.js';

function post(server, path, body, headers = {}) {
  return request(server, path, { method: 'POST', body, headers });
}

test('the answer names channel and id', async (t) => {
  const server = await startServer(t);
  const answer = await post(server, '/publish?channel=a', 'hello');
  assert.equal(answer.status, 200);
  assert.match(answer.headers['content-type'], /^application\/json/);
  const { id } = answer.json();
  assert.equal(answer.text.trim(), `{"channel":"a","id":"${id}"}`);
  assert.match(id, /^[0-9A-Za-z._~-]+$/);
  assert.equal((await history(server, 'a')).messages[0].id, id);
});

test('several channels give an array, in the order of the query', async (t) => {
  const server = await startServer(t);
  const answer = await post(server, '/publish?channel=b&channel=a&channel=b&event=x', 'hello');
  assert.deepEqual(answer.json().map((one) => one.channel), ['b', 'a']);
  for (const { channel, id } of answer.json()) {
    const { messages } = await history(server, channel);
    assert.deepEqual(messages.map((m) => [m.id, m.data, m.event]), [[id, 'hello', 'x']]);
  }
});

for (const [what, type, body, data, encoding] of [
  ['JSON by type', 'application/json', '{"x":1}', { x: 1 }],
  ['JSON with a charset', 'application/json; charset=utf-8', '[1]', [1]],
  ['+json', 'application/cloudevents+json', '"s"', 's'],
  ['a JSON number by type', 'Application/JSON', ' 42 ', 42],
  ['text by type, though it looks like JSON', 'text/plain', '{"x":1}', '{"x":1}'],
  ['text that is not UTF-8', 'text/plain', Buffer.from([0xff]), '/w==', 'base64'],
  ['no type, an object', null, '{"x":1}', { x: 1 }],
  ['no type, an array', null, ' [1,2]\n', [1, 2]],
  ['no type, a number', null, '42', '42'],
  ['no type, text', null, 'hello', 'hello'],
  ['no type, broken JSON', null, '{"x":', '{"x":'],
  ['no type, not UTF-8', null, Buffer.from([0xc3, 0x28]), 'wyg=', 'base64'],
  ['curl -d, an object', 'application/x-www-form-urlencoded', '{"x":1}', { x: 1 }],
  ['curl -d, text', 'application/x-www-form-urlencoded', 'a=b&c', 'a=b&c'],
  ['another type', 'application/octet-stream', 'hello', 'aGVsbG8=', 'base64'],
  ['an empty body', null, '', ''],
]) {
  test(`kind of a message: ${what}`, async (t) => {
    const server = await startServer(t);
    const answer = await post(server, '/publish?channel=a', body, type ? { 'Content-Type': type } : {});
    assert.equal(answer.status, 200, answer.text);
    const [message] = (await history(server, 'a')).messages;
    assert.deepEqual(message.data, data);
    assert.equal(message.encoding, encoding);
  });
}

for (const body of ['{"x":', '{x:1}', '', '{"a":1}}', '[1,]', 'hello', '"\u0001"', '{"a":NaN}', '01', '"\\x"', Buffer.from([0x22, 0xff, 0x22])]) {
  test(`${JSON.stringify(body.toString('latin1'))} as application/json is bad_json`, async (t) => {
    const server = await startServer(t);
    const answer = await post(server, '/publish?channel=a', body, { 'Content-Type': 'application/json' });
    assert.deepEqual([answer.status, answer.json().code], [400, 'bad_json']);
    assert.equal((await get(server, '/api/channels/a')).status, 404, 'nothing was published');
  });
}

test('a chunked body is a body', async (t) => {
  const server = await startServer(t);
  const answer = await post(server, '/publish?channel=a', 'x'.repeat(50000), { 'Transfer-Encoding': 'chunked' });
  assert.equal(answer.status, 200, answer.text);
  assert.equal((await history(server, 'a')).messages[0].data.length, 50000);
});

test('64 KiB are accepted, a byte more is too_large', async (t) => {
  const server = await startServer(t);
  assert.equal((await post(server, '/publish?channel=a', 'x'.repeat(65536))).status, 200);
  for (const headers of [{}, { 'Transfer-Encoding': 'chunked' }]) {
    const answer = await post(server, '/publish?channel=a', 'x'.repeat(65537), headers);
    assert.deepEqual([answer.status, answer.json().code], [413, 'too_large']);
  }
  assert.equal((await history(server, 'a')).messages.length, 1);
});

test('--max-message moves the limit', async (t) => {
  const server = await startServer(t, ['--max-message', '10']);
  assert.equal((await post(server, '/publish?channel=a', '0123456789')).status, 200);
  assert.equal((await post(server, '/publish?channel=a', '0123456789x')).status, 413);
  const batch = await postJson(server, '/api/publish', [{ channel: 'a', data: '0' }, { channel: 'a', data: '0123456789x' }]);
  assert.deepEqual([batch.status, batch.json().code], [413, 'too_large']);
  assert.equal((await history(server, 'a')).messages.length, 1);
});

test('the same key publishes once and answers the first id', async (t) => {
  const server = await startServer(t);
  const key = { 'Idempotency-Key': 'key-1' };
  const first = (await post(server, '/publish?channel=a', 'once', key)).json();
  assert.equal('repeated' in first, false);
  const second = (await post(server, '/publish?channel=a', 'once', key)).json();
  assert.deepEqual(second, { ...first, repeated: true });
  const conflict = await post(server, '/publish?channel=a', 'other', key);
  assert.deepEqual([conflict.status, conflict.json().code], [422, 'idempotency_conflict']);
  const elsewhere = (await post(server, '/publish?channel=b', 'other', key)).json();
  assert.equal('repeated' in elsewhere, false, 'the key belongs to the channel');
  assert.equal((await history(server, 'a')).messages.length, 1);
});

test('a key for several channels is known in each', async (t) => {
  const server = await startServer(t);
  const key = { 'Idempotency-Key': 'key-1' };
  const first = (await post(server, '/publish?channel=a', 'once', key)).json();
  const both = (await post(server, '/publish?channel=a&channel=b', 'once', key)).json();
  assert.deepEqual(both[0], { ...first, repeated: true });
  assert.equal('repeated' in both[1], false);
});

test('twenty at once with one key publish one', async (t) => {
  const server = await startServer(t, ['--workers', '2']);
  const answers = await Promise.all(
    Array.from({ length: 20 }, () => post(server, '/publish?channel=a', 'once', { 'Idempotency-Key': 'k' })),
  );
  const all = answers.map((a) => a.json());
  assert.equal(new Set(all.map((a) => a.id)).size, 1);
  assert.equal(all.filter((a) => !a.repeated).length, 1);
  assert.equal((await history(server, 'a')).messages.length, 1);
});

for (const [what, key] of [['empty', ''], ['129 bytes', 'k'.repeat(129)], ['a tab within', 'a\tb'], ['a byte over 127', 'a\xe9']]) {
  test(`an Idempotency-Key that is ${what} is bad_key`, async (t) => {
    const server = await startServer(t);
    const answer = await post(server, '/publish?channel=a', 'x', { 'Idempotency-Key': key });
    assert.deepEqual([answer.status, answer.json().code], [400, 'bad_key']);
  });
}

test('a key of 128 printable bytes is fine', async (t) => {
  const server = await startServer(t);
  assert.equal((await post(server, '/publish?channel=a', 'x', { 'Idempotency-Key': `${'k~!"'.repeat(32)}` })).status, 200);
});

test('event names: UTF-8 up to 64 bytes', async (t) => {
  const server = await startServer(t);
  const event = 'größe-'.repeat(8); // 64 bytes
  assert.equal(Buffer.byteLength(event), 64);
  const stream = await openSse(t, server, { channel: 'a' });
  await stream.ready();
  await publish(server, 'a', 'x', { event });
  assert.equal((await stream.events.next()).event, event);
});

for (const event of ['a\nb', 'a\rb', 'a\0b', 'a\x7fb', 'e'.repeat(65), 'crier.ready', 'crier.']) {
  test(`event name ${JSON.stringify(event).slice(0, 20)} is bad_event`, async (t) => {
    const server = await startServer(t);
    const answer = await post(server, `/publish?${query({ channel: 'a', event })}`, 'x');
    assert.deepEqual([answer.status, answer.json().code], [400, 'bad_event']);
  });
}

test('api: one object for one channel, with everything in it', async (t) => {
  const server = await startServer(t);
  const answer = await postJson(server, '/api/publish', '{"channel":"a","data":{ "n" : 1.0 },"event":"tick","key":"k"}');
  assert.equal(answer.status, 200);
  const { id } = answer.json();
  assert.deepEqual(answer.json(), { channel: 'a', id });
  const kept = await get(server, '/api/channels/a/history');
  assert.ok(kept.text.includes(`{"channel":"a","id":"${id}","event":"tick","data":{ "n" : 1.0 },"time":`), kept.text);
  const again = await postJson(server, '/api/publish', '{"channel":"a","data":{ "n" : 1.0 },"event":"tick","key":"k"}');
  assert.deepEqual(again.json(), { channel: 'a', id, repeated: true });
  const conflict = await postJson(server, '/api/publish', '{"channel":"a","data":2,"key":"k"}');
  assert.deepEqual([conflict.status, conflict.json().code], [422, 'idempotency_conflict']);
});

test('api: channels give an array', async (t) => {
  const server = await startServer(t);
  const answer = (await postJson(server, '/api/publish', { channels: ['b', 'a'], data: 'x' })).json();
  assert.deepEqual(answer.map((one) => one.channel), ['b', 'a']);
});

test('api: strings are text, values are JSON, base64 is binary', async (t) => {
  const server = await startServer(t);
  const batch = [{ channel: 'a', data: 'text' }, { channel: 'a', data: [1] }, { channel: 'a', data: null }, { channel: 'a', data: 'AP8=', encoding: 'base64' }];
  assert.equal((await postJson(server, '/api/publish', batch)).status, 200);
  const { messages } = await history(server, 'a');
  assert.deepEqual(messages.map((m) => m.data), ['text', [1], null, 'AP8=']);
  assert.deepEqual(messages.map((m) => m.encoding), [undefined, undefined, undefined, 'base64']);
});

test('api: an array is published in its order and answered in its order', async (t) => {
  const server = await startServer(t, ['--history', '1000']);
  const data = numbered('m', 1000);
  const answer = (await postJson(server, '/api/publish', data.map((d, i) => ({ channel: i % 2 ? 'odd' : 'even', data: d })))).json();
  assert.equal(answer.length, 1000);
  assert.deepEqual(answer.map((one) => one.channel), data.map((_, i) => (i % 2 ? 'odd' : 'even')));
  const { messages } = await history(server, 'even', { limit: 1000 });
  assert.deepEqual(messages.map((m) => m.data), data.filter((_, i) => i % 2 === 0));
  assert.deepEqual(messages.map((m) => m.id), answer.filter((_, i) => i % 2 === 0).map((one) => one.id));
});

test('api: an array of one gives an array', async (t) => {
  const server = await startServer(t);
  const answer = (await postJson(server, '/api/publish', [{ channel: 'a', data: 1 }])).json();
  assert.ok(Array.isArray(answer));
  assert.equal(answer.length, 1);
});

for (const [what, body, code] of [
  ['no JSON', 'hello', 'bad_json'],
  ['nothing', '', 'bad_json'],
  ['half an object', '{"channel":"a"', 'bad_json'],
  ['a string', '"a"', 'bad_body'],
  ['a number in the array', '[{"channel":"a","data":1},2]', 'bad_body'],
  ['an array in the array', '[[{"channel":"a","data":1}]]', 'bad_body'],
  ['no channel', '{"data":1}', 'missing_channel'],
  ['an empty list of channels', '{"channels":[],"data":1}', 'missing_channel'],
  ['no data', '{"channel":"a"}', 'bad_body'],
  ['a channel that is no string', '{"channel":7,"data":1}', 'bad_channel'],
  ['a bad channel', '{"channel":"a b","data":1}', 'bad_channel'],
  ['a bad channel in channels', '{"channels":["a","b c"],"data":1}', 'bad_channel'],
  ['a bad event', '{"channel":"a","data":1,"event":"a\\nb"}', 'bad_event'],
  ['an event that is no string', '{"channel":"a","data":1,"event":1}', 'bad_event'],
  ['a bad key', '{"channel":"a","data":1,"key":""}', 'bad_key'],
  ['an unknown encoding', '{"channel":"a","data":"x","encoding":"hex"}', 'bad_encoding'],
  ['broken base64', '{"channel":"a","data":"*","encoding":"base64"}', 'bad_encoding'],
  ['base64 of no string', '{"channel":"a","data":1,"encoding":"base64"}', 'bad_encoding'],
  ['an error in the last of many', '[{"channel":"a","data":1},{"channel":"a","data":2},{"channel":"","data":3}]', 'bad_channel'],
]) {
  test(`api: ${what} is ${code}, and nothing was published`, async (t) => {
    const server = await startServer(t);
    const answer = await postJson(server, '/api/publish', body);
    assert.deepEqual([answer.status, answer.json().code], [400, code]);
    assert.ok(answer.json().detail.length > 0);
    assert.equal((await get(server, '/api/channels/a')).status, 404);
  });
}

test('api: 1001 messages and a body over 1 MiB are refused', async (t) => {
  const server = await startServer(t);
  const many = await postJson(server, '/api/publish', Array.from({ length: 1001 }, () => ({ channel: 'a', data: 1 })));
  assert.ok([400, 413].includes(many.status), `${many.status}`);
  const big = await postJson(server, '/api/publish', Array.from({ length: 20 }, () => ({ channel: 'a', data: 'x'.repeat(60000) })));
  assert.deepEqual([big.status, big.json().code], [413, 'too_large']);
  const fits = await postJson(server, '/api/publish', Array.from({ length: 16 }, () => ({ channel: 'b', data: 'x'.repeat(60000) })));
  assert.equal(fits.status, 200);
  assert.equal((await get(server, '/api/channels/a')).status, 404);
});

test('fetch publishes, and the answer means: ordered', async (t) => {
  const server = await startServer(t);
  const answer = await fetch(server.url('/publish?channel=a'), { method: 'POST', body: 'hello' });
  const { id } = await answer.json();
  assert.deepEqual((await history(server, 'a')).messages.map((m) => m.id), [id]);
});
