// The read API, health and statistics, the pages.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { get, history, numbered, postJson, publish, publishMany, query, request } from './lib/http.js';
import { poll } from './lib/poll.js';
import { startServer } from './lib/server.js';
import { openSse } from './lib/sse.js';
import { until } from './lib/wait.js';
import { openWs } from './lib/wsclient.js';

test('history: the members and their order', async (t) => {
  const server = await startServer(t);
  const id = await publish(server, 'a', 'x');
  const answer = await get(server, '/api/channels/a/history');
  assert.equal(answer.status, 200);
  const { time } = answer.json().messages[0];
  assert.equal(
    answer.text.trim(),
    `{"channel":"a","messages":[{"channel":"a","id":"${id}","data":"x","time":${time}}],"cursor":"${id}","complete":true}`,
  );
});

test('history of nothing is empty', async (t) => {
  const server = await startServer(t);
  const answer = await history(server, 'silent');
  assert.deepEqual([answer.messages, answer.complete], [[], true]);
  assert.ok(answer.cursor);
});

test('history pages forward by cursor', async (t) => {
  const server = await startServer(t, ['--history', '1000']);
  const data = numbered('m', 250);
  const ids = await publishMany(server, 'a', data);
  const seen = [];
  let since;
  let pages = 0;
  for (;;) {
    const page = await history(server, 'a', { since, limit: 60 });
    seen.push(...page.messages.map((m) => m.data));
    since = page.cursor;
    pages++;
    if (page.complete) break;
  }
  assert.deepEqual(seen, data);
  assert.equal(pages, 5);
  assert.equal(since, ids[249]);
  assert.equal((await history(server, 'a')).messages.length, 100, 'the default is 100');
  assert.equal((await history(server, 'a', { limit: 1000 })).messages.length, 250);
});

test('history pages backward with reverse=1; since is the exclusive upper end', async (t) => {
  const server = await startServer(t);
  const data = numbered('m', 25);
  const ids = await publishMany(server, 'a', data);
  const upper = await history(server, 'a', { since: ids[10], reverse: 1, limit: 3 });
  assert.deepEqual(upper.messages.map((m) => m.data), ['m9', 'm8', 'm7']);
  const seen = [];
  let since;
  for (;;) {
    const page = await history(server, 'a', { since, reverse: 1, limit: 10 });
    seen.push(...page.messages.map((m) => m.data));
    since = page.cursor;
    if (page.complete) break;
  }
  assert.deepEqual(seen, [...data].reverse());
});

test('history says a gap', async (t) => {
  const server = await startServer(t, ['--history', '2']);
  const ids = await publishMany(server, 'a', numbered('m', 5));
  const answer = await history(server, 'a', { since: ids[0] });
  assert.deepEqual(answer.gap, { channel: 'a', reason: 'expired', since: ids[0], cursor: ids[2] });
  assert.deepEqual(answer.messages.map((m) => m.data), ['m3', 'm4']);
  assert.equal('gap' in (await history(server, 'a', { since: ids[2] })), false);
});

test('messages leave by age', async (t) => {
  const server = await startServer(t, ['--history-age', '1s']);
  const [first] = await publishMany(server, 'a', ['1', '2']);
  await until(async () => (await history(server, 'a')).messages.length === 0, 'the messages are too old');
  const answer = await poll(server, { channel: 'a', since: first, timeout: 0 });
  assert.equal(answer.gaps[0].reason, 'expired');
});

test('DELETE clears; old cursors are told', async (t) => {
  const server = await startServer(t);
  const ids = await publishMany(server, 'a', ['1', '2', '3']);
  const answer = await request(server, '/api/channels/a/history', { method: 'DELETE' });
  assert.equal(answer.text.trim(), '{"channel":"a","removed":3}');
  assert.deepEqual((await history(server, 'a')).messages, []);
  const polled = await poll(server, { channel: 'a', since: ids[0], timeout: 0 });
  assert.equal(polled.gaps[0].reason, 'expired');
  const id = await publish(server, 'a', '4');
  assert.deepEqual((await poll(server, { channel: 'a', since: ids[2] })).messages.map((m) => m.id), [id], 'the order goes on');
  assert.equal((await request(server, '/api/channels/never/history', { method: 'DELETE' })).json().removed, 0);
});

test('channels: those with subscribers, sorted, with counts', async (t) => {
  const server = await startServer(t, ['--workers', '2']);
  await publish(server, 'unheard', 'x');
  const id = await publish(server, 'b', 'x');
  await openWs(t, server, '/ws?channel=b&channel=a');
  const sse = await openSse(t, server, { channel: 'b' });
  await sse.ready();
  const answer = (await get(server, '/api/channels')).json();
  assert.deepEqual(answer.channels.map((c) => [c.channel, c.subscribers, c.messages]), [['a', 1, 0], ['b', 2, 1]]);
  assert.equal(answer.channels[1].cursor, id);
  assert.deepEqual(Object.keys(answer.channels[1]), ['channel', 'subscribers', 'messages', 'cursor']);
  assert.equal(answer.more, false);
});

test('channels: prefix, after, limit', async (t) => {
  const server = await startServer(t);
  await openWs(t, server, `/ws?${query({ channel: ['x:3', 'x:1', 'y:1', 'x:2', 'w'] })}`);
  const names = async (q) => {
    const { channels, more } = (await get(server, `/api/channels?${q}`)).json();
    return [channels.map((c) => c.channel), more];
  };
  assert.deepEqual(await names(''), [['w', 'x:1', 'x:2', 'x:3', 'y:1'], false]);
  assert.deepEqual(await names('prefix=x:'), [['x:1', 'x:2', 'x:3'], false]);
  assert.deepEqual(await names('prefix=x:&limit=2'), [['x:1', 'x:2'], true]);
  assert.deepEqual(await names('prefix=x:&limit=2&after=x:2'), [['x:3'], false]);
  assert.deepEqual(await names('after=zzz'), [[], false]);
});

test('a channel: counts, or 404 when nobody listens and nothing is kept', async (t) => {
  const server = await startServer(t);
  const id = await publish(server, 'a/b', 'x');
  assert.deepEqual((await get(server, '/api/channels/a%2Fb')).json(), { channel: 'a/b', subscribers: 0, messages: 1, cursor: id });
  assert.deepEqual((await get(server, '/api/channels/a/b')).json().cursor, id, 'a slash may stand unescaped');
  assert.equal((await get(server, '/api/channels/a/b/history')).json().messages.length, 1);
  const none = await get(server, '/api/channels/silent');
  assert.deepEqual([none.status, none.json().code], [404, 'not_found']);
});

test('channels without listeners and history disappear', async (t) => {
  const server = await startServer(t, ['--history-age', '1s']);
  const ws = await openWs(t, server, '/ws?channel=a');
  await publish(server, 'a', 'x');
  assert.equal((await get(server, '/api/channels/a')).json().subscribers, 1);
  await ws.close();
  await until(async () => (await get(server, '/api/channels/a')).status === 404, 'the channel is gone');
});

test('presence: 404 in a namespace without it', async (t) => {
  const server = await startServer(t);
  await openWs(t, server, '/ws?channel=a');
  const answer = await get(server, '/api/channels/a/presence');
  assert.deepEqual([answer.status, answer.json().code], [404, 'no_presence']);
  assert.deepEqual((await get(server, '/api/channels/chat:empty/presence')).json(), { channel: 'chat:empty', members: [], total: 0 });
});

test('presence: a poll counts while it waits', async (t) => {
  const server = await startServer(t);
  const { cursor } = await poll(server, { channel: 'chat:x' });
  const waiting = poll(server, { channel: 'chat:x', since: cursor, timeout: 55 });
  await server.connected({ poll: 1 });
  const { members } = (await get(server, '/api/channels/chat:x/presence')).json();
  assert.deepEqual(members.map((m) => m.transport), ['poll']);
  assert.deepEqual(Object.keys(members[0]), ['client', 'transport', 'since']);
  await publish(server, 'chat:x', 'x');
  await waiting;
});

test('health and ready', async (t) => {
  const server = await startServer(t);
  const health = await get(server, '/health');
  assert.deepEqual([health.status, health.json()], [200, { status: 'ok' }]);
  const ready = await get(server, '/ready');
  assert.deepEqual([ready.status, ready.json()], [200, { status: 'ready' }]);
});

test('stats', async (t) => {
  const server = await startServer(t, ['--workers', '2']);
  const empty = await server.stats();
  assert.deepEqual(Object.keys(empty), ['total_connections', 'connections', 'rooms', 'published', 'uptime_seconds', 'version']);
  assert.deepEqual([empty.total_connections, empty.connections, empty.rooms, empty.published], [0, { sse: 0, ws: 0, poll: 0 }, {}, 0]);
  assert.match(empty.version, /^\d+\.\d+\.\d+$/);
  await openWs(t, server, '/ws?channel=a');
  await (await openSse(t, server, { channel: 'a' })).ready();
  await (await openSse(t, server, { channel: 'a' })).ready();
  const { cursor } = await poll(server, { channel: 'a' });
  const waiting = poll(server, { channel: 'a', since: cursor });
  await server.connected({ sse: 2, ws: 1, poll: 1 });
  await publishMany(server, 'a', ['1', '2', '3']);
  await waiting;
  await until(async () => (await server.stats()).total_connections === 3, 'the poll is answered');
  assert.equal((await server.stats()).published, 3);
});

test('metrics are Prometheus text', async (t) => {
  const server = await startServer(t);
  await publish(server, 'a', 'x');
  const answer = await get(server, '/metrics');
  assert.equal(answer.status, 200);
  assert.match(answer.headers['content-type'], /^text\/plain/);
  for (const line of answer.text.trim().split('\n'))
    assert.match(line, /^(# (HELP|TYPE) \w+ .+|[a-zA-Z_:][\w:]*(\{[^}]*\})? [-+0-9.eE]+|# EOF)$/, line);
  assert.match(answer.text, /^crier_\w+/m);
});

test('the pages are those of web/', async (t) => {
  const server = await startServer(t);
  const file = (name) => readFileSync(new URL(`../../web/${name}`, import.meta.url));
  for (const [path, name, type] of [
    ['/', 'index.html', 'text/html; charset=utf-8'],
    ['/index.html', 'index.html', 'text/html; charset=utf-8'],
    ['/chat.html', 'chat.html', 'text/html; charset=utf-8'],
    ['/demo.js', 'demo.js', 'text/javascript; charset=utf-8'],
    ['/status.js', 'status.js', 'text/javascript; charset=utf-8'],
    ['/chat.js', 'chat.js', 'text/javascript; charset=utf-8'],
    ['/style.css', 'style.css', 'text/css; charset=utf-8'],
    ['/favicon.svg', 'favicon.svg', 'image/svg+xml'],
  ]) {
    const answer = await get(server, path);
    assert.equal(answer.status, 200, path);
    assert.equal(answer.headers['content-type'], type);
    assert.ok(answer.bytes.equals(file(name)), `${path} is web/${name}`);
    const head = await get(server, path, { method: 'HEAD' });
    assert.deepEqual([head.status, head.bytes.length], [200, 0]);
    assert.equal(head.headers['content-length'], String(answer.bytes.length));
  }
});

test('a page with a query is the page', async (t) => {
  const server = await startServer(t);
  assert.equal((await get(server, '/?channel=a')).status, 200);
  assert.equal((await get(server, '/chat.html?room=x')).status, 200);
});

for (const path of ['/nope', '/web/index.html', '/../etc/passwd', '/%2e%2e/%2e%2e/etc/passwd', '/api', '/api/nope', '/chat.html/', '/eventsx']) {
  test(`${path} is not found`, async (t) => {
    const server = await startServer(t);
    const answer = await get(server, path);
    assert.deepEqual([answer.status, answer.json().code], [404, 'not_found']);
  });
}

test('a batch over several channels is read back from each', async (t) => {
  const server = await startServer(t);
  await postJson(server, '/api/publish', [{ channels: ['a', 'b'], data: 1 }, { channel: 'a', data: 2 }]);
  assert.deepEqual((await history(server, 'a')).messages.map((m) => m.data), [1, 2]);
  assert.deepEqual((await history(server, 'b')).messages.map((m) => m.data), [1]);
});
