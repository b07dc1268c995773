// Several instances with one Redis are one server. What is shown:
//
// | group         | what a person can rely on                                                         |
// | ------------- | --------------------------------------------------------------------------------- |
// | together      | every message reaches everyone, in one order, whatever it is made of; cursors,     |
// |               | history, idempotency keys and counts hold across instances and their restarts      |
// | apart         | prefixes and databases do not hear each other                                      |
// | ways in       | UNIX socket, password, ACL user, TLS with verification and client certificates     |
// | what is wrong | said: bad URLs, wrong passwords, unknown authorities, evicting or forgetful servers |
// | what is lost  | SCRIPT FLUSH costs nothing; FLUSHALL is a gap for everybody, ids are never reused   |
// | cost          | 2,000 clients that resume on 50 channels read 50 ranges at most                     |
//
// All of it for each of redis-server and valkey-server that is there.

import assert from 'node:assert/strict';
import { basename } from 'node:path';
import test from 'node:test';
import { EventSource } from 'eventsource';
import { makeCertificates } from './lib/certs.js';
import { judge } from './lib/checker.js';
import { Follower } from './lib/follower.js';
import { get, history, numbered, postJson, publish, publishMany, query, request, subscribers } from './lib/http.js';
import { publishSurely, readyStatus, startInstance, startInstances, untilNotReady, untilReady, wholeHistory } from './lib/instances.js';
import { poll } from './lib/poll.js';
import { redisPlace, REDIS_SERVERS, startRedis } from './lib/redis.js';
import { startRelay } from './lib/relay.js';
import { resumeAtOnce } from './lib/crowd.js';
import { run, startServer } from './lib/server.js';
import { dataThrough, listen, TRANSPORTS } from './lib/transports.js';
import { atEnd, Queue, until } from './lib/wait.js';
import { openWs } from './lib/wsclient.js';

const post = (server, channel, body, headers = {}) => request(server, `/publish?${query({ channel })}`, { method: 'POST', headers: { 'Content-Type': 'text/plain', ...headers }, body });
const reasons = (items) => items.map((i) => i.gap?.reason ?? i);

for (const binary of REDIS_SERVERS) {
  const on = (name, body) => test(REDIS_SERVERS.length > 1 ? `${basename(binary)}: ${name}` : name, body);
  const redisFor = (t, options = {}) => startRedis(t, { binary, ...options });

  // --- together ---

  on('three instances: everyone hears everything in one order, whoever published it', async (t) => {
    const servers = await startInstances(t, 3, await redisFor(t));
    const listeners = [];
    for (const server of servers) for (const transport of TRANSPORTS) listeners.push(await listen(t, server, transport, ['a', 'chat:b']));
    const ids = { a: [], 'chat:b': [] };
    for (let i = 0; i < 60; i++) {
      const channel = i % 2 ? 'a' : 'chat:b';
      ids[channel].push(await publish(servers[i % 3], channel, `m${i}`));
    }
    for (const listener of listeners) {
      const heard = { a: [], 'chat:b': [] };
      for (let i = 0; i < 60; i++) {
        const m = await listener.next();
        assert.equal(m.gap, undefined, JSON.stringify(m));
        heard[m.channel].push(m.id);
      }
      assert.deepEqual(heard, ids, listener.transport);
    }
  });

  on('many publishers at three instances with two workers each: one order for all', async (t) => {
    const servers = await startInstances(t, 3, await redisFor(t), ['--workers', '2', '--history', '2000']);
    const listeners = [];
    for (let i = 0; i < 18; i++) listeners.push(await listen(t, servers[i % 3], TRANSPORTS[Math.floor(i / 3) % 3], ['a']));
    const N = 50;
    const publishers = await Promise.all(Array.from({ length: 9 }, (_, i) => openWs(t, servers[i % 3])));
    await Promise.all(publishers.map(async (ws, p) => {
      for (let i = 0; i < N; i++) assert.equal((await ws.command({ op: 'publish', channel: 'a', data: `${p}.${i}` })).op, 'ok');
    }));
    const kept = await wholeHistory(servers[0], 'a');
    assert.equal(kept.length, N * publishers.length);
    for (let p = 0; p < publishers.length; p++)
      assert.deepEqual(kept.map((m) => m.data).filter((d) => d.startsWith(`${p}.`)), numbered(`${p}.`, N), 'a publisher keeps its order');
    for (const listener of listeners) {
      const heard = [];
      while (heard.length < kept.length) heard.push((await listener.next()).id);
      assert.deepEqual(judge(kept.map((m) => m.id), heard), [], listener.transport);
    }
  });

  on('a message is the same wherever it is read: JSON byte for byte, text, binary, event names', async (t) => {
    const [here, there] = await startInstances(t, 2, await redisFor(t));
    const channel = 'a/b:c@=+,~!-._x';
    const all = [];
    const ws = await openWs(t, there, `/ws?${query({ channel })}`);
    for (const [type, body, event] of [
      ['application/json', '{ "b" : 1.50, "a":[ ] }'], ['text/plain', 'two\r\nlines \u0000 ü 🙂'], ['text/plain', ''],
      ['application/octet-stream', Buffer.from([0, 255, 10, 13, 36, 42])], ['text/plain', 'with an event', 'née'], ['text/plain', 'x'.repeat(65536)],
    ]) {
      const answer = await request(here, `/publish?${query({ channel, event })}`, { method: 'POST', headers: { 'Content-Type': type }, body });
      assert.equal(answer.status, 200, answer.text);
      const frame = await ws.frames.next();
      assert.match(frame, /^\{"op":"message",/);
      all.push(frame.replace('"op":"message",', ''));
      assert.equal(JSON.parse(frame).id, answer.json().id);
    }
    assert.ok(all[0].includes('{ "b" : 1.50, "a":[ ] }'), 'forwarded as it came');
    assert.equal(JSON.parse(all[3]).data, 'AP8KDSQq');
    assert.equal(JSON.parse(all[4]).event, 'née');
    for (const server of [here, there]) {
      const answer = await get(server, `/api/channels/${channel}/history`);
      assert.ok(answer.text.includes(`"messages":[${all.join(',')}]`), 'history says the same, to the byte');
      const { messages } = await poll(server, { channel, history: 10 });
      assert.deepEqual(messages, all.map((one) => JSON.parse(one)));
    }
  });

  on('a cursor of one instance is good at another, from every transport to every transport', async (t) => {
    const [here, there] = await startInstances(t, 2, await redisFor(t));
    for (const from of TRANSPORTS)
      for (const to of TRANSPORTS) {
        const channels = [`${from}-${to}`, `${from}-${to}-2`];
        const first = await listen(t, here, from, channels);
        await publishMany(there, channels[0], ['1', '2']);
        assert.deepEqual(await dataThrough(first, '2'), ['1', '2']);
        await first.close();
        await publishMany(here, channels[0], ['3', '4']);
        const second = await listen(t, there, to, channels, first.cursor);
        await publish(here, channels[0], '5');
        assert.deepEqual(await dataThrough(second, '5'), ['3', '4', '5']);
        await second.close();
        await publish(there, channels[1], '6');
        const third = await listen(t, here, from, channels, second.cursor);
        assert.deepEqual(await dataThrough(third, '6'), ['6']);
        await third.close();
      }
  });

  on('history of another instance: forwards, backwards, from a cursor, in pages', async (t) => {
    const [here, there] = await startInstances(t, 2, await redisFor(t), ['--history', '1000']);
    const ids = await publishMany(here, 'a', numbered('m', 250));
    assert.deepEqual((await wholeHistory(there, 'a')).map((m) => m.id), ids);
    const pages = [];
    for (let since, page; !page?.complete; since = page.cursor) {
      page = await history(there, 'a', { limit: 40, since });
      pages.push(...page.messages.map((m) => m.data));
    }
    assert.deepEqual(pages, numbered('m', 250));
    const from = await history(there, 'a', { since: ids[199], limit: 1000 });
    assert.deepEqual([from.messages.map((m) => m.data), from.complete], [numbered('m', 50, 200), true]);
    const back = await history(there, 'a', { reverse: 1, limit: 3, since: ids[100] });
    assert.deepEqual([back.messages.map((m) => m.data), back.complete], [['m99', 'm98', 'm97'], false]);
    const last = await listen(t, there, 'sse', ['a'], ids[247]);
    assert.deepEqual(await dataThrough(last, 'm249'), ['m248', 'm249']);
    assert.deepEqual((await poll(there, { channel: 'a', history: 2 })).messages.map((m) => m.data), ['m248', 'm249']);
    const one = (await get(there, '/api/channels/a')).json();
    assert.deepEqual([one.messages, one.cursor], [250, ids[249]]);
  });

  on('only the last --history messages are kept, in Redis too, and what is older is a gap', async (t) => {
    const redis = await redisFor(t);
    const [here, there] = await startInstances(t, 2, redis, ['--history', '5']);
    const ids = await publishMany(here, 'a', numbered('m', 30));
    assert.deepEqual((await wholeHistory(there, 'a')).map((m) => m.data), numbered('m', 5, 25));
    assert.equal(await redis.cli('XLEN', 'crier:{a}:s'), 5);
    const late = await listen(t, there, 'ws', ['a'], ids[3]);
    assert.deepEqual(await late.next(), { gap: { channel: 'a', reason: 'expired', since: ids[3], cursor: ids[24] } });
    assert.deepEqual(await dataThrough(late, 'm29'), numbered('m', 5, 25));
  });

  on('what is older than --history-age goes, for all instances, and out of Redis; ids go on', async (t) => {
    const redis = await redisFor(t);
    const [here, there] = await startInstances(t, 2, redis, ['--history-age', '1s', '--idempotency-age', '1s']);
    const ids = await publishMany(here, 'a', ['1', '2']);
    for (const key of numbered('key', 30)) await post(here, 'b', 'x', { 'Idempotency-Key': key });
    assert.ok((await redis.cli('HLEN', 'crier:{b}:m')) > 30);
    for (const server of [here, there]) await until(async () => (await history(server, 'a')).messages.length === 0, 'the messages are too old');
    const left = async () => (await redis.cli('KEYS', '*')).filter((key) => key.endsWith('}:s'));
    await until(async () => (await left()).length === 0, 'Redis keeps no stream');
    await publish(here, 'b', 'y');
    assert.ok((await redis.cli('HLEN', 'crier:{b}:m')) < 10, 'nor idempotency keys');
    const late = await listen(t, there, 'sse', ['a'], ids[0]);
    const item = await late.next();
    assert.ok(['expired', 'epoch'].includes(item.gap?.reason), JSON.stringify(item));
    const id = await publish(here, 'a', '3');
    assert.ok(!ids.includes(id), 'no id is given twice');
    assert.deepEqual(await dataThrough(late, '3'), ['3']);
  });

  on('an idempotency key holds at every instance, on every way of publishing, and over restarts', async (t) => {
    const redis = await redisFor(t);
    const [here, there] = await startInstances(t, 2, redis);
    const first = (await post(here, 'a', 'once', { 'Idempotency-Key': 'k1' })).json();
    assert.equal(first.repeated, undefined);
    const again = await post(there, 'a', 'once', { 'Idempotency-Key': 'k1' });
    assert.deepEqual([again.status, again.json()], [200, { ...first, repeated: true }]);
    const other = await post(there, 'a', 'something else', { 'Idempotency-Key': 'k1' });
    assert.deepEqual([other.status, other.json().code], [422, 'idempotency_conflict']);
    const ws = await openWs(t, there);
    const answer = await ws.command({ op: 'publish', channel: 'a', data: 'once', key: 'k1' });
    assert.deepEqual([answer.op, answer.id, answer.repeated], ['ok', first.id, true]);
    const batch = await postJson(here, '/api/publish', [{ channel: 'a', data: 'once', key: 'k1' }, { channel: 'b', data: 'once', key: 'k1' }]);
    assert.equal(batch.json()[0].repeated, true);
    assert.equal(batch.json()[1].repeated, undefined, 'a key belongs to its channel');
    ws.socket.terminate();
    await Promise.all([here.stop(), there.stop()]);
    const [next] = await startInstances(t, 1, redis);
    assert.deepEqual((await post(next, 'a', 'once', { 'Idempotency-Key': 'k1' })).json(), { ...first, repeated: true });
    assert.deepEqual((await wholeHistory(next, 'a')).map((m) => m.data), ['once']);
  });

  on('two instances at once with the same keys publish everything once', async (t) => {
    const [here, there] = await startInstances(t, 2, await redisFor(t), ['--history', '500']);
    const bodies = numbered('m', 100);
    const sent = await Promise.all(bodies.flatMap((body) => [here, there].map((server) => post(server, 'a', body, { 'Idempotency-Key': body }))));
    assert.ok(sent.every((answer) => answer.status === 200));
    for (let i = 0; i < 200; i += 2) {
      assert.equal(sent[i].json().id, sent[i + 1].json().id);
      assert.equal([sent[i], sent[i + 1]].filter((a) => a.json().repeated).length, 1);
    }
    assert.deepEqual((await wholeHistory(there, 'a')).map((m) => m.data).sort(), [...bodies].sort());
  });

  on('order and cursors survive a restart of all instances', async (t) => {
    const redis = await redisFor(t);
    const before = await startInstances(t, 2, redis);
    const ids = await publishMany(before[0], 'a', ['1', '2', '3']);
    await Promise.all(before.map((server) => server.stop()));
    const after = await startInstances(t, 2, redis);
    assert.deepEqual((await wholeHistory(after[1], 'a')).map((m) => m.id), ids);
    for (const transport of TRANSPORTS) {
      const listener = await listen(t, after[0], transport, ['a'], ids[0]);
      assert.deepEqual(await dataThrough(listener, '3'), ['2', '3']);
    }
    const listener = await listen(t, after[0], 'ws', ['a'], ids[2]);
    ids.push(await publish(after[1], 'a', '4'));
    assert.deepEqual(await dataThrough(listener, '4'), ['4']);
    assert.equal(new Set(ids).size, 4);
  });

  on('order and cursors survive a restart of Redis; streams stay open', async (t) => {
    const redis = await redisFor(t, { aof: true });
    const [here, there] = await startInstances(t, 2, redis);
    const live = await Promise.all(TRANSPORTS.map((transport) => listen(t, there, transport, ['a'])));
    const ids = await publishMany(here, 'a', ['1', '2', '3']);
    for (const listener of live) assert.deepEqual(await dataThrough(listener, '3'), ['1', '2', '3']);
    await redis.kill9();
    await untilNotReady(here);
    await redis.restart();
    await untilReady(here, there);
    ids.push((await publishSurely(here, 'a', '4')).id);
    for (const listener of live) assert.deepEqual(await dataThrough(listener, '4'), ['4'], listener.transport);
    const late = await listen(t, there, 'sse', ['a'], ids[1]);
    assert.deepEqual(await dataThrough(late, '4'), ['3', '4']);
    assert.equal(new Set(ids).size, 4);
    assert.deepEqual((await wholeHistory(there, 'a')).map((m) => m.id), ids);
  });

  on('a batch is published in its order and heard everywhere', async (t) => {
    const [here, there] = await startInstances(t, 2, await redisFor(t), ['--history', '1000']);
    const listener = await listen(t, there, 'sse', ['a', 'b']);
    const answer = await postJson(here, '/api/publish', Array.from({ length: 1000 }, (_, i) => ({ channel: i % 2 ? 'a' : 'b', data: i })));
    assert.equal(answer.status, 200);
    const heard = { a: [], b: [] };
    for (let i = 0; i < 1000; i++) {
      const m = await listener.next();
      heard[m.channel].push(m.data);
    }
    assert.deepEqual(heard.b, Array.from({ length: 500 }, (_, i) => 2 * i));
    assert.deepEqual(heard.a, Array.from({ length: 500 }, (_, i) => 2 * i + 1));
    const both = await postJson(here, '/api/publish', { channels: ['a', 'b'], data: 'both' });
    assert.deepEqual(both.json().map((m) => m.channel), ['a', 'b']);
    assert.deepEqual([(await listener.next()).data, (await listener.next()).data], ['both', 'both']);
  });

  on('a history that is cleared at one instance is cleared at all; who listens goes on', async (t) => {
    const redis = await redisFor(t);
    const [here, there] = await startInstances(t, 2, redis);
    const ids = await publishMany(here, 'a', ['1', '2', '3']);
    const live = await listen(t, there, 'ws', ['a'], ids[2]);
    const cleared = await request(here, '/api/channels/a/history', { method: 'DELETE' });
    assert.deepEqual([cleared.status, cleared.json()], [200, { channel: 'a', removed: 3 }]);
    assert.deepEqual(await wholeHistory(there, 'a'), []);
    for (const transport of TRANSPORTS) {
      const late = await listen(t, there, transport, ['a'], ids[0]);
      assert.deepEqual(await late.next(), { gap: { channel: 'a', reason: 'expired', since: ids[0], cursor: ids[2] } }, transport);
    }
    const id = await publish(here, 'a', '4');
    assert.deepEqual((await live.next()).id, id, 'without a gap');
    const atHead = await listen(t, there, 'sse', ['a'], ids[2]);
    assert.deepEqual(await dataThrough(atHead, '4'), ['4'], 'nor for who had everything');
  });

  on('counts and lists speak for all instances; a killed one is not counted any more', async (t) => {
    const redis = await redisFor(t);
    const [one, two, three] = await startInstances(t, 3, redis);
    const open = async (server, channel, n) => {
      for (let i = 0; i < n; i++) await openWs(t, server, `/ws?channel=${channel}`);
    };
    await open(one, 'a', 2);
    await open(two, 'a', 3);
    await open(two, 'b', 1);
    await open(three, 'c', 1);
    await listen(t, three, 'sse', ['a']);
    const seen = async (server, parameters = {}) => (await get(server, `/api/channels?${query(parameters)}`)).json();
    const counts = async (server) => Object.fromEntries((await seen(server)).channels.map((c) => [c.channel, c.subscribers]));
    const all = async (expected, servers) => {
      const found = await Promise.all(servers.map(counts));
      return found.every((f) => JSON.stringify(Object.entries(f).sort()) === JSON.stringify(Object.entries(expected).sort()));
    };
    await until(() => all({ a: 6, b: 1, c: 1 }, [one, two, three]), 'everyone counts everyone');
    assert.equal(await subscribers(one, 'a'), 6);
    assert.equal(await subscribers(one, 'c'), 1, 'which nobody listens to here');
    assert.deepEqual((await seen(one)).channels.map((c) => c.channel), ['a', 'b', 'c'], 'sorted');
    const page = await seen(three, { limit: 2 });
    assert.deepEqual([page.channels.map((c) => c.channel), page.more], [['a', 'b'], true]);
    const rest = await seen(three, { after: 'b' });
    assert.deepEqual([rest.channels.map((c) => c.channel), rest.more], [['c'], false]);
    assert.deepEqual((await seen(two, { prefix: 'c' })).channels.map((c) => c.channel), ['c']);
    await two.crash();
    await until(() => all({ a: 3, c: 1 }, [one, three]), 'the dead are not counted');
    await three.stop();
    await until(() => all({ a: 2 }, [one]), 'nor who has left');
  });

  on('what is kept is described by an instance that never heard of it', async (t) => {
    const redis = await redisFor(t);
    const [here, there] = await startInstances(t, 2, redis);
    const ids = await publishMany(here, 'a', ['1', '2']);
    assert.deepEqual((await get(there, '/api/channels/a')).json(), { channel: 'a', subscribers: 0, messages: 2, cursor: ids[1] });
    assert.equal((await get(there, '/api/channels/never')).status, 404);
    await openWs(t, here, '/ws?channel=a');
    await until(async () => (await get(there, '/api/channels')).json().channels.length === 1, 'it is listed');
    assert.deepEqual((await get(there, '/api/channels')).json(), { channels: [{ channel: 'a', subscribers: 1, messages: 2, cursor: ids[1] }], more: false });
  });

  on('a chat room spans instances', async (t) => {
    const [here, there] = await startInstances(t, 2, await redisFor(t));
    const ann = await openWs(t, here, '/chat/lobby');
    const { client_id: annId } = await ann.next();
    const ben = await openWs(t, there, '/chat/lobby');
    const { client_id: benId } = await ben.next();
    const joined = await ann.upTo((m) => m.message === `${benId} joined the room`);
    assert.ok(joined.length >= 1);
    ann.send({ content: 'hello' });
    const hello = await ben.upTo((m) => m.content === 'hello');
    assert.equal(hello.at(-1).client_id, annId);
    ben.socket.terminate();
    await ann.upTo((m) => m.message === `${benId} left the room`);
  });

  on('a history larger than --redis-max-reply is resumed and read in pages', async (t) => {
    const redis = await redisFor(t);
    const [here, there] = await startInstances(t, 2, redis, ['--redis-max-reply', '1m', '--history', '200', '--outbox-bytes', '64m']);
    const body = (i) => `${i} ${'x'.repeat(50000)}`;
    const ids = [];
    for (let i = 0; i < 100; i++) ids.push(await publish(here, 'a', body(i)));
    for (const transport of TRANSPORTS) {
      const listener = await listen(t, there, transport, ['a'], ids[0]);
      for (let i = 1; i < 100; i++) {
        const m = await listener.next();
        assert.equal(m.gap, undefined, JSON.stringify(m));
        assert.equal(m.id, ids[i]);
        assert.equal(m.data, body(i));
      }
    }
    assert.deepEqual((await wholeHistory(there, 'a')).map((m) => m.id), ids);
    assert.deepEqual((await history(there, 'a', { reverse: 1, limit: 3 })).messages.map((m) => m.id), ids.slice(-3).reverse());
    assert.doesNotMatch(there.stderr, /level=(warn|error).*(reply|limit)/i);
  });

  on('a channel stays subscribed for --redis-linger, and who comes back then costs no read', async (t) => {
    const redis = await redisFor(t);
    const [server] = await startInstances(t, 1, redis, ['--redis-linger', '1s']);
    const ids = await publishMany(server, 'a', ['1', '2', '3']);
    const first = await listen(t, server, 'ws', ['a'], ids[0]);
    await dataThrough(first, '3');
    await first.close();
    await until(async () => (await subscribers(server, 'a')) === 0, 'it has left');
    await redis.cli('CONFIG', 'RESETSTAT');
    const second = await listen(t, server, 'sse', ['a'], ids[0]);
    assert.deepEqual(await dataThrough(second, '3'), ['2', '3']);
    const { xrange = 0, xrevrange = 0, subscribe = 0 } = await redis.commandStats();
    assert.deepEqual([xrange, xrevrange, subscribe], [0, 0, 0]);
    await second.close();
    const names = async () => (await redis.cli('PUBSUB', 'CHANNELS', 'crier:{a}*')).length;
    await until(async () => (await names()) === 0, 'then it is given up');
    await publish(server, 'a', '4');
    const third = await listen(t, server, 'poll', ['a'], ids[1]);
    await publish(server, 'a', '5');
    assert.deepEqual(await dataThrough(third, '5'), ['3', '4', '5']);
  });

  // --- apart ---

  on('prefixes and databases do not hear each other', async (t) => {
    const redis = await redisFor(t);
    const [plain] = await startInstances(t, 1, redis);
    const [prefixed] = await startInstances(t, 1, redis, ['--redis-prefix', 'other:']);
    const [database] = await startInstances(t, 1, `${redis.url}/3`);
    const servers = { plain, prefixed, database };
    const listeners = {};
    for (const [name, server] of Object.entries(servers)) listeners[name] = await listen(t, server, 'ws', ['a']);
    for (const [name, server] of Object.entries(servers)) await publishMany(server, 'a', [`${name} 1`, `${name} 2`]);
    for (const [name, server] of Object.entries(servers)) await publish(server, 'a', `${name} 3`);
    for (const [name, listener] of Object.entries(listeners)) {
      assert.deepEqual(await dataThrough(listener, `${name} 3`), [`${name} 1`, `${name} 2`, `${name} 3`]);
      assert.deepEqual((await wholeHistory(servers[name], 'a')).map((m) => m.data), numbered(`${name} `, 3, 1));
      assert.equal((await get(servers[name], '/api/channels/a')).json().subscribers, 1, name);
    }
    assert.equal(await redis.cli('EXISTS', 'crier:{a}:s', 'other:{a}:s'), 2);
  });

  // --- ways in ---

  on('over a UNIX socket', async (t) => {
    const redis = await redisFor(t, { unix: true, password: 'geheim' });
    const servers = await startInstances(t, 2, redis);
    const listener = await listen(t, servers[1], 'sse', ['a']);
    await publish(servers[0], 'a', 'x');
    assert.equal((await listener.next()).data, 'x');
    const [database] = await startInstances(t, 1, `${redis.url}?db=2`);
    assert.deepEqual(await wholeHistory(database, 'a'), []);
  });

  for (const [what, setUp, login] of [
    ['the password of the default user', (redis) => redis.cli('CONFIG', 'SET', 'requirepass', 'p@ss:w/rd%#'), ':p%40ss%3Aw%2Frd%25%23@'],
    ['a user of its own, who may do only what is needed',
      (redis) => redis.cli('ACL', 'SETUSER', 'crier', 'on', '>s3cret', '~crier:*', '&crier:*', '+@read', '+@write', '+@pubsub', '+@scripting', '+@connection', '-@dangerous', '+info', '+time'),
      'crier:s3cret@'],
  ]) {
    on(`with ${what}`, async (t) => {
      const redis = await redisFor(t);
      await setUp(redis);
      const servers = await startInstances(t, 2, `redis://${login}${redis.host}`);
      const listener = await listen(t, servers[1], 'ws', ['a']);
      await publish(servers[0], 'a', 'x');
      assert.equal((await listener.next()).data, 'x');
      assert.equal((await wholeHistory(servers[1], 'a')).length, 1);
      await until(async () => (await subscribers(servers[0], 'a')) === 1, 'counts work as well');
      for (const server of servers) assert.ok(!/s3cret|w\/rd|w%2Frd/.test(server.stderr), 'no password in the log');
    });
  }

  on('a wrong password: up, not ready, said; ready by itself when the password is right', async (t) => {
    const redis = await redisFor(t);
    await redis.cli('ACL', 'SETUSER', 'crier', 'on', '>other', '~*', '&*', '+@all');
    const server = await startInstance(t, `redis://crier:s3cret@${redis.host}`);
    assert.equal((await get(server, '/health')).status, 200);
    const ready = await get(server, '/ready');
    assert.equal(ready.status, 503);
    const refused = await post(server, 'a', 'x');
    assert.equal(refused.status, 503);
    assert.ok(Number(refused.headers['retry-after']) > 0);
    await until(() => /WRONGPASS|password/i.test(server.stderr), 'the log says what is wrong');
    await redis.cli('ACL', 'SETUSER', 'crier', '>s3cret');
    await untilReady(server);
    await publish(server, 'a', 'x');
    assert.ok(!server.stderr.includes('s3cret'), 'no password in the log');
  });

  on('TLS: verified by the given authority, refused by another one or for another name', async (t) => {
    const certificates = makeCertificates(t);
    const redis = await redisFor(t, { tls: certificates });
    const servers = await startInstances(t, 2, redis, ['--redis-ca', certificates.ca]);
    const listener = await listen(t, servers[1], 'poll', ['a']);
    await publish(servers[0], 'a', 'x');
    assert.equal((await listener.next()).data, 'x');
    const elsewhere = await redisFor(t, { tls: { ...makeCertificates(t, { names: 'DNS:elsewhere.example' }) } });
    for (const [url, ca] of [[redis.url, certificates.strangerCa], [elsewhere.url, elsewhere.tls.ca], [redis.url, null]]) {
      const server = await startInstance(t, url, ca ? ['--redis-ca', ca] : []);
      await until(() => /TLS: /.test(server.stderr), () => `the log says why: ${server.stderr}`);
      assert.equal((await get(server, '/health')).status, 200);
      assert.equal(await readyStatus(server), 503);
    }
  });

  on('TLS with a client certificate, for a server that asks for one', async (t) => {
    const certificates = makeCertificates(t);
    const redis = await redisFor(t, { tls: { ...certificates, clients: 'yes' } });
    const [server] = await startInstances(t, 1, redis, ['--redis-ca', certificates.ca, '--redis-cert', certificates.clientCert, '--redis-key', certificates.clientKey]);
    await publish(server, 'a', 'x');
    const without = await startInstance(t, redis, ['--redis-ca', certificates.ca]);
    await until(() => /redis/.test(without.stderr.split('\n').filter((l) => /level=(warn|error)/.test(l)).join('\n')), 'the log says why');
    assert.equal(await readyStatus(without), 503);
  });

  on('localhost by name, and the database in the URL', async (t) => {
    const redis = await redisFor(t);
    const servers = await startInstances(t, 2, `redis://localhost:${redis.port}/5`);
    await publish(servers[0], 'a', 'x');
    assert.equal((await wholeHistory(servers[1], 'a')).length, 1);
    assert.match((await redis.info('keyspace')).db5, /keys=/);
  });

  for (const name of ['REDIS_URL', 'CRIER_REDIS']) {
    on(`the URL from ${name}`, async (t) => {
      const redis = await redisFor(t);
      const server = await startInstanceByEnv(t, name, redis.url);
      await publish(server, 'a', 'x');
      assert.equal(await redis.cli('XLEN', 'crier:{a}:s'), 1);
    });
  }

  // --- what is wrong ---

  on('Redis is not there at the start: it serves, is not ready, publishes nothing; then all is well', async (t) => {
    const place = await redisPlace();
    const server = await startInstance(t, place);
    for (const path of ['/health', '/']) assert.equal((await get(server, path)).status, 200);
    assert.equal(await readyStatus(server), 503);
    const began = performance.now();
    const refused = await post(server, 'a', 'x');
    assert.deepEqual([refused.status, refused.json().code], [503, 'unavailable']);
    assert.ok(Number(refused.headers['retry-after']) > 0);
    assert.ok(performance.now() - began < 1000, 'at once');
    const ws = await openWs(t, server);
    const answer = await ws.command({ op: 'publish', channel: 'a', data: 'x' });
    assert.deepEqual([answer.op, answer.code], ['error', 'unavailable']);
    const followers = TRANSPORTS.map((transport) => new Follower([server], transport, ['a']));
    for (const follower of followers) atEnd(t, () => follower.leave());
    const following = followers.map((follower) => follower.follow('hello'));
    await startRedis(t, { binary, port: place.port });
    await untilReady(server);
    await until(async () => (await subscribers(server, 'a')) === 3, 'who came before Redis is there');
    await publish(server, 'a', 'hello');
    await Promise.all(following);
    for (const follower of followers) assert.deepEqual(follower.gaps('a'), [], follower.transport);
  });

  // --- what is lost ---

  on('SCRIPT FLUSH under load costs nobody anything', async (t) => {
    const redis = await redisFor(t);
    const [here, there] = await startInstances(t, 2, redis, ['--history', '5000']);
    const listener = await listen(t, there, 'ws', ['a']);
    let stop = false;
    const published = [];
    const publishing = [here, there, here].map(async (server, p) => {
      for (let i = 0; !stop; i++) published.push(await publish(server, 'a', `${p}.${i}`));
    });
    for (let i = 0; i < 20; i++) {
      const before = published.length;
      await redis.cli('SCRIPT', 'FLUSH');
      await until(() => published.length > before + 10, 'publishing goes on');
    }
    stop = true;
    await Promise.all(publishing);
    const order = (await wholeHistory(there, 'a')).map((m) => m.id);
    assert.deepEqual([...published].sort(), [...order].sort());
    const heard = [];
    while (heard.length < order.length) heard.push((await listener.next()).id);
    assert.deepEqual(judge(order, heard), []);
  });

  for (const transport of TRANSPORTS) {
    on(`FLUSHALL: ${transport} is told, alive or resuming, and no id is ever given again`, async (t) => {
      const redis = await redisFor(t);
      const [here, there] = await startInstances(t, 2, redis);
      const live = await listen(t, there, transport, ['a']);
      const ids = await publishMany(here, 'a', numbered('before ', 5));
      assert.deepEqual(await dataThrough(live, 'before 4'), numbered('before ', 5));
      for (let round = 0; round < 3; round++) {
        await redis.cli('FLUSHALL');
        // More than were lost, so that offsets pass those of before.
        const more = await publishMany(here, 'a', numbered(`${round} after `, 8));
        const items = await dataThrough(live, `${round} after 7`);
        assert.deepEqual(reasons(items), ['epoch', ...numbered(`${round} after `, 8)], 'one gap, then all of the new order');
        assert.equal(items[0].gap.since, ids.at(-1), 'which says where the old one ended');
        const late = await listen(t, there, transport, ['a'], ids.at(-2));
        assert.deepEqual(reasons(await dataThrough(late, `${round} after 7`)), ['epoch', ...numbered(`${round} after `, 8)]);
        const fresh = await listen(t, here, transport, ['a'], more[3]);
        assert.deepEqual(await dataThrough(fresh, `${round} after 7`), numbered(`${round} after `, 4, 4), 'cursors of the new order are good');
        const again = await listen(t, there, transport, ['a'], late.cursor);
        more.push(await publish(here, 'a', `${round} last`));
        for (const listener of [live, late, again]) assert.deepEqual(await dataThrough(listener, `${round} last`), [`${round} last`], 'told once');
        ids.push(...more);
        assert.equal(new Set(ids).size, ids.length);
      }
    });
  }

  on('FLUSHALL while nobody publishes at all: who listens is told without a message', async (t) => {
    const redis = await redisFor(t);
    const [here] = await startInstances(t, 1, redis);
    const ids = await publishMany(here, 'a', ['1', '2']);
    const live = await listen(t, here, 'sse', ['a']);
    await until(async () => (await redis.cli('EXISTS', 'crier:{#}:instances')) === 1, 'the instance has shown a sign of life');
    await redis.cli('FLUSHALL');
    const { gap } = await live.next();
    assert.deepEqual([gap.channel, gap.reason, gap.since], ['a', 'epoch', ids[1]]);
  });

  on('FLUSHALL while nobody publishes: a client is told when it resumes, and live ones at the next message at the latest', async (t) => {
    const redis = await redisFor(t);
    const [here, there] = await startInstances(t, 2, redis);
    const ids = await publishMany(here, 'a', ['1', '2', '3']);
    const live = await listen(t, there, 'sse', ['a'], ids[2]);
    await redis.cli('FLUSHALL');
    const resumed = await listen(t, there, 'ws', ['a'], ids[1]);
    const id = await publish(here, 'a', '4');
    const items = reasons(await dataThrough(resumed, '4'));
    if (items[0] === '3') items.shift(); // the instance still had it
    assert.deepEqual(items, ['epoch', '4']);
    assert.deepEqual(reasons(await dataThrough(live, '4')), ['epoch', '4']);
    assert.ok(!ids.includes(id));
    assert.deepEqual((await wholeHistory(here, 'a')).map((m) => m.id), [id]);
  });

  on('a live gap reaches raw WebSockets, chat rooms, and an EventSource, which goes on from it', async (t) => {
    const redis = await redisFor(t);
    const [here, there] = await startInstances(t, 2, redis);
    const raw = await openWs(t, there, '/ws?channel=chat:a&format=raw');
    const chat = await openWs(t, there, '/chat/a');
    await chat.next();
    const source = new EventSource(there.url('/events?channel=chat:a&channel=b'));
    atEnd(t, () => source.close());
    const heard = new Queue('the EventSource');
    source.addEventListener('crier.ready', () => heard.push('ready'));
    source.addEventListener('crier.gap', (e) => heard.push(JSON.parse(e.data)));
    source.addEventListener('message', (e) => heard.push([e.data, e.lastEventId]));
    assert.equal(await heard.next(), 'ready');
    const before = await publish(here, 'chat:a', '{"n":1}');
    await heard.upTo(([data]) => data === '{"n":1}');
    await chat.upTo((m) => m.n === 1);
    await redis.cli('FLUSHALL');
    const after = await publish(here, 'chat:a', '{"n":2}');
    const gap = await heard.next();
    assert.deepEqual([gap.channel, gap.reason, gap.since], ['chat:a', 'epoch', before]);
    const [data, id] = await heard.next();
    assert.deepEqual([data, id.split('~')[0]], ['{"n":2}', after]);
    const told = (await chat.upTo((m) => m.type === 'gap')).at(-1);
    assert.deepEqual([told.channel, told.reason, told.since, told.cursor], ['chat:a', 'epoch', before, gap.cursor]);
    const { code, reason } = await raw.closed;
    assert.deepEqual([code, reason], [4003, `gap epoch ${gap.cursor}`]);
    const resumed = await listen(t, here, 'ws', ['chat:a'], gap.cursor);
    assert.deepEqual(await dataThrough(resumed, '{"n":2}'), ['{"n":2}'], 'the cursor of a gap is where to go on');
  });

  on('all data is lost with the server, and another comes up empty: told, and ids are new', async (t) => {
    const redis = await redisFor(t);
    const [here, there] = await startInstances(t, 2, redis);
    const live = await listen(t, there, 'ws', ['a']);
    await until(async () => (await subscribers(here, 'a')) === 1, 'the other one counts it');
    const ids = await publishMany(here, 'a', ['1', '2', '3']);
    await dataThrough(live, '3');
    await redis.restart(); // no appendonly: it forgets
    await untilReady(here, there);
    for (const data of ['4', '5', '6', '7']) ids.push((await publishSurely(here, 'a', data)).id);
    assert.deepEqual(reasons(await dataThrough(live, '7')), ['epoch', '4', '5', '6', '7']);
    assert.equal(new Set(ids).size, ids.length);
    await until(async () => (await subscribers(here, 'a')) === 1, 'counts come back as well');
  });

  // Items of polls from a cursor up to the message with this data.
  const pollUpTo = async (server, channel, since, data) => {
    const items = [];
    for (let polls = 0; polls < 50; polls++) {
      const answer = await poll(server, { channel, since, timeout: 1 });
      items.push(...answer.gaps.map((gap) => ({ gap })), ...answer.messages);
      since = answer.cursor;
      if (answer.messages.some((m) => m.data === data)) return { items, since };
    }
    throw new Error(`${data} did not come in 50 polls: ${JSON.stringify(items)}`);
  };

  on('a cursor never goes back: who was told of a loss is not told again while nothing is published', async (t) => {
    const redis = await redisFor(t, { aof: true });
    const [server] = await startInstances(t, 1, redis);
    const ids = await publishMany(server, 'a', ['1', '2']);
    const mark = redis.mark();
    ids.push(...(await publishMany(server, 'a', ['3', '4'])));
    await redis.forgetSince(mark);
    await untilReady(server);
    for (const since of [ids[1], ids[2]]) {
      const told = await poll(server, { channel: 'a', since });
      assert.deepEqual([told.gaps.map((g) => g.reason), told.messages], [['epoch'], []]);
      for (const transport of TRANSPORTS) {
        const listener = await listen(t, server, transport, ['a'], told.cursor);
        assert.equal(listener.cursor, told.cursor, transport);
        await listener.close();
      }
      let { cursor } = told;
      for (let i = 0; i < 2; i++) {
        const answer = await poll(server, { channel: 'a', since: cursor, timeout: 0 });
        assert.deepEqual(answer, { cursor: told.cursor, messages: [], gaps: [] });
        ({ cursor } = answer);
      }
      const next = await history(server, 'a', { since: told.cursor });
      assert.deepEqual([next.gap, next.messages], [undefined, []]);
    }
  });

  on('a waiting poll that is told of losses in one channel gets all that is kept of both', async (t) => {
    const redis = await redisFor(t, { aof: true });
    const relay = await startRelay(t, redis);
    const flags = ['--history', '1000', '--workers', '1'];
    const [here] = await startInstances(t, 1, redis, flags);
    const [there] = await startInstances(t, 1, relay, flags);
    const channel = ['a', 'b'];
    const first = [await publish(here, 'a', 'a0'), await publish(here, 'b', 'b0')].join('~');
    const waiting = poll(there, { channel, since: first, timeout: 25 });
    await until(async () => (await subscribers(there, 'b')) === 1, 'it waits');
    relay.stall();
    relay.cut();
    const expected = { a: [], b: [] };
    for (let round = 0; round < 3; round++) {
      for (const c of channel) {
        const data = numbered(`${c}${round}.`, 70);
        await publishMany(here, c, data);
        expected[c].push(...data);
      }
      const mark = redis.mark();
      await publish(here, 'b', 'lost');
      await redis.forgetSince(mark);
      await untilReady(here);
    }
    await publish(here, 'a', 'last a');
    await publish(here, 'b', 'last b');
    relay.restore();
    const heard = { a: [], b: [] };
    const reasonsOf = [];
    for (let answer = await waiting; ; answer = await poll(there, { channel, since: answer.cursor, timeout: 1 })) {
      for (const m of answer.messages) heard[m.channel].push(m.data);
      reasonsOf.push(...answer.gaps.map((g) => `${g.channel} ${g.reason}`));
      if (!answer.messages.length && !answer.gaps.length) break;
    }
    for (const c of channel) assert.deepEqual(heard[c], [...expected[c], `last ${c}`]);
    assert.ok(reasonsOf.includes('b epoch'));
  });

  on('a loss that is found late is told to who comes back after it as well', async (t) => {
    const redis = await redisFor(t, { aof: true });
    const relay = await startRelay(t, redis);
    const [ignorant] = await startInstances(t, 1, redis);
    const [witness] = await startInstances(t, 1, relay);
    const ids = await publishMany(witness, 'a', ['1', '2']);
    const mark = redis.mark();
    await publish(witness, 'a', 'lost');
    relay.stall();
    relay.cut();
    await redis.forgetSince(mark);
    await untilReady(ignorant);
    // Whoever publishes now knows nothing of the loss.
    const id = await publish(ignorant, 'a', '3');
    assert.deepEqual((await pollUpTo(ignorant, 'a', ids[1], '3')).items.map((i) => i.data), ['3']);
    relay.restore();
    await untilReady(witness);
    await publish(witness, 'a', '4');
    for (const server of [ignorant, witness]) {
      const { items } = await pollUpTo(server, 'a', id, '4');
      assert.deepEqual(items.map((i) => i.gap?.reason ?? i.data), ['epoch', '4'], 'from the message after the loss');
      assert.equal(items[0].gap.since, ids[1]);
      const early = await pollUpTo(server, 'a', ids[1], '4');
      assert.deepEqual(early.items.map((i) => i.gap?.reason ?? i.data), ['epoch', '3', '4'], 'from before it');
    }
  });

  on('an epoch that was lost from its beginning is told to who had not heard of it', async (t) => {
    const redis = await redisFor(t, { aof: true });
    const [server] = await startInstances(t, 1, redis);
    const ids = await publishMany(server, 'a', ['1', '2']);
    const mark = redis.mark();
    for (const data of ['lost', 'lost too']) {
      await redis.kill9();
      await redis.restart();
      await untilReady(server);
      await publish(server, 'a', data); // in an epoch of its own
    }
    await redis.forgetSince(mark);
    await untilReady(server);
    await publish(server, 'a', '3');
    const { items } = await pollUpTo(server, 'a', ids[1], '3');
    assert.deepEqual(items.map((i) => i.gap?.reason ?? i.data), ['epoch', '3']);
    assert.equal(items[0].gap.since, ids[1]);
  });

  on('of two losses that are found late the first is told, whichever was found first', async (t) => {
    const redis = await redisFor(t, { aof: true });
    const relays = await Promise.all([startRelay(t, redis), startRelay(t, redis)]);
    const [ignorant] = await startInstances(t, 1, redis);
    const witnesses = await Promise.all(relays.map(async (relay) => (await startInstances(t, 1, relay))[0]));
    const [, before] = await publishMany(ignorant, 'a', ['1', '2']);
    let id;
    for (const [i, relay] of relays.entries()) {
      await untilReady(witnesses[i]);
      const mark = redis.mark();
      await publish(witnesses[i], 'a', 'lost');
      relay.stall();
      relay.cut();
      await redis.forgetSince(mark);
      await untilReady(ignorant);
      id = await publish(ignorant, 'a', `after loss ${i}`);
    }
    for (const i of [1, 0]) {
      relays[i].restore();
      await untilReady(witnesses[i]);
      await publish(witnesses[i], 'a', `found ${i}`);
    }
    for (const server of [ignorant, ...witnesses]) {
      const { items } = await pollUpTo(server, 'a', id, 'found 0');
      assert.equal(items[0].gap.reason, 'epoch');
      assert.equal(items[0].gap.since, before);
      assert.deepEqual(items.filter((i) => !i.gap).map((i) => i.data), ['found 1', 'found 0']);
    }
  });

  // --- at the start ---

  for (const [what, args, aof, pattern] of [
    ['an eviction policy that deletes streams', ['--maxmemory', '100mb', '--maxmemory-policy', 'allkeys-lru'], true, /allkeys-lru/],
    ['an eviction policy that deletes what expires', ['--maxmemory', '100mb', '--maxmemory-policy', 'volatile-ttl'], true, /volatile-ttl/],
    ['missing persistence', [], false, /persist|appendonly/],
  ]) {
    on(`${what} is warned of`, async (t) => {
      const redis = await redisFor(t, { args, aof });
      const [server] = await startInstances(t, 1, redis);
      const warnings = () => server.stderr.split('\n').filter((l) => /level=warn/.test(l));
      await until(() => warnings().some((l) => pattern.test(l)), () => `a warning; it said:\n${server.stderr}`);
      assert.equal(warnings().filter((l) => pattern.test(l)).length, 1, 'once');
    });
  }

  on('a server that keeps everything gives no reason to warn', async (t) => {
    const [server] = await startInstances(t, 1, await redisFor(t, { aof: true }));
    await publish(server, 'a', 'x');
    assert.doesNotMatch(server.stderr, /level=(warn|error)/);
  });

  // --- cost ---

  on('2,000 clients that resume on 50 channels at once read 50 ranges at most', async (t) => {
    const redis = await redisFor(t);
    const [old] = await startInstances(t, 1, redis, ['--history', '200']);
    const channels = numbered('channel', 50);
    const cursors = {};
    for (const channel of channels) cursors[channel] = (await publishMany(old, channel, numbered(`${channel}.`, 25, 100)))[4];
    const [server] = await startInstances(t, 1, redis, ['--history', '200']);
    await redis.cli('CONFIG', 'RESETSTAT');
    const got = await resumeAtOnce(t, server, 2000, (i) => ({ channel: channels[i % 50], since: cursors[channels[i % 50]] }), (channel) => `${channel}.124`);
    const stats = await redis.commandStats();
    for (const { transport, channel, text } of got)
      assert.deepEqual(text.match(new RegExp(`${channel}\\.\\d+`, 'g')), numbered(`${channel}.`, 20, 105), transport);
    const ranges = (stats.xrange ?? 0) + (stats.xrevrange ?? 0);
    t.diagnostic(`${got.length} clients, ${ranges} range reads; ${JSON.stringify(stats)}`);
    assert.ok(ranges <= 50, `${ranges} range reads`);
  });
}

async function startInstanceByEnv(t, name, url) {
  const server = await startServer(t, [], { env: { [name]: url } });
  await untilReady(server);
  return server;
}

// Needs no Redis at all.
for (const [url, expected] of [
  ['http://:s3cret@127.0.0.1', /redis:\/\//],
  ['redis://:s3cret@127.0.0.1:port', /port/i],
  ['redis://:s3cret@127.0.0.1:70000', /port/i],
  ['redis://:s3cret@', /host/i],
  ['redis://:s3cret@127.0.0.1/db', /database/i],
  ['redis://:s3cret@[::1', /./],
  ['redis://:s3cret%zz@127.0.0.1', /./],
  ['redis+sentinel://:s3cret@127.0.0.1', /master/i],
  ['redis+cluster://:s3cret@127.0.0.1/1', /./],
  ['unix://:s3cret@', /path/i],
  ['redis://:s3cret@127.0.0.1,redis+cluster://127.0.0.1', /./],
]) {
  test(`a bad URL ends with 2 and one line without the password: ${url.replace('s3cret', '…')}`, async () => {
    for (const given of [{ args: ['--redis', url] }, { args: [], env: { REDIS_URL: url } }]) {
      const { code, stderr, stdout } = await run(['serve', '--port', '0', ...given.args], { env: given.env });
      assert.equal(code, 2, stderr);
      assert.equal(stdout, '');
      assert.match(stderr, /^[^\n]+\n$/, 'one line');
      assert.match(stderr, expected);
      assert.ok(!stderr.includes('s3cret'), stderr);
    }
  });
}

for (const prefix of ['', 'a{b}', 'a b', 'ü', 'redis://:s3cret@x', 'x'.repeat(65)]) {
  test(`a bad prefix ends with 2: ${JSON.stringify(prefix.replace('s3cret', '…'))}`, async () => {
    const { code, stderr } = await run(['serve', '--port', '0', '--redis', 'redis://127.0.0.1', '--redis-prefix', prefix]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, /redis-prefix/);
    assert.ok(!stderr.includes('s3cret'), stderr);
  });
}

test('an authority that cannot be read ends with 2 and says which', async () => {
  const { code, stderr } = await run(['serve', '--port', '0', '--redis', 'rediss://127.0.0.1', '--redis-ca', '/nowhere/ca.pem']);
  assert.equal(code, 2, stderr);
  assert.match(stderr, /\/nowhere\/ca\.pem/);
});
