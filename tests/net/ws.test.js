// GET /ws with JSON commands: ready, the commands and their answers, notices.

import assert from 'node:assert/strict';
import test from 'node:test';
import { get, history, numbered, publish, publishMany } from './lib/http.js';
import { startServer } from './lib/server.js';
import { openSse } from './lib/sse.js';
import { openWs, refusedWs } from './lib/wsclient.js';

test('without a query: ready with nothing in it', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server);
  assert.match(ws.ready.client, /^c[0-9A-Za-z_-]{11}$/);
  assert.deepEqual(ws.ready, { op: 'ready', client: ws.ready.client, protocol: 'crier.v1', cursor: '', channels: [] });
});

test('the members of ready stand in the documented order', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server, '/ws?channel=a');
  assert.deepEqual(Object.keys(ws.ready), ['op', 'client', 'protocol', 'cursor', 'channels']);
});

test('the subprotocol crier.v1 is chosen when it is offered, another is not', async (t) => {
  const server = await startServer(t);
  assert.equal((await openWs(t, server, '/ws', { protocols: ['x', 'crier.v1'] })).socket.protocol, 'crier.v1');
  assert.equal((await openWs(t, server, '/ws')).socket.protocol, '');
});

test('the query subscribes at once', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server, '/ws?channel=b&channel=a&channel=b');
  assert.deepEqual(ws.ready.channels.map((c) => c.channel), ['b', 'a']);
  assert.equal(ws.ready.cursor, ws.ready.channels.map((c) => c.cursor).join('~'));
  const id = await publish(server, 'a', 'hello', { event: 'greeting' });
  const message = await ws.next();
  assert.deepEqual(message, { op: 'message', channel: 'a', id, event: 'greeting', data: 'hello', time: message.time });
  assert.deepEqual(Object.keys(message), ['op', 'channel', 'id', 'event', 'data', 'time']);
});

test('since in the query resumes, history begins with the last N', async (t) => {
  const server = await startServer(t);
  const ids = await publishMany(server, 'a', ['1', '2', '3']);
  const resumed = await openWs(t, server, `/ws?channel=a&since=${ids[0]}`);
  assert.equal(resumed.ready.cursor, ids[0]);
  assert.deepEqual((await resumed.take(2)).map((m) => m.data), ['2', '3']);
  const last = await openWs(t, server, '/ws?channel=a&history=1');
  assert.equal((await last.next()).data, '3');
});

test('JSON data comes as JSON, text as string, binary with its encoding', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server, '/ws?channel=a');
  await publish(server, 'a', '{"x":[1,2,{"y":null}]}', { type: 'application/json' });
  await publish(server, 'a', '{"x":1}', { type: 'text/plain' });
  await publish(server, 'a', Buffer.from([255, 0]), { type: 'application/octet-stream' });
  const [json, text, binary] = await ws.take(3);
  assert.deepEqual(json.data, { x: [1, 2, { y: null }] });
  assert.equal(text.data, '{"x":1}');
  assert.equal(binary.data, '/wA=');
  assert.equal(binary.encoding, 'base64');
});

test('subscribe: ok with the cursor, then live messages', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server);
  const head = await publish(server, 'a', 'earlier');
  assert.deepEqual(await ws.command({ op: 'subscribe', channel: 'a' }), { op: 'ok', ref: 1, channel: 'a', cursor: head });
  const id = await publish(server, 'a', 'now');
  assert.equal((await ws.next()).id, id);
});

test('subscribe with since: ok, kept messages, live ones', async (t) => {
  const server = await startServer(t);
  const ids = await publishMany(server, 'a', ['1', '2', '3']);
  const ws = await openWs(t, server);
  const ok = await ws.command({ op: 'subscribe', channel: 'a', since: ids[0], history: 3 });
  assert.equal(ok.cursor, ids[0]);
  assert.deepEqual((await ws.take(2)).map((m) => m.id), ids.slice(1));
  await publish(server, 'a', '4');
  assert.equal((await ws.next()).data, '4');
});

test('subscribe with history: the last N, then live ones', async (t) => {
  const server = await startServer(t);
  await publishMany(server, 'a', ['1', '2', '3']);
  const ws = await openWs(t, server);
  assert.equal((await ws.command({ op: 'subscribe', channel: 'a', history: 2 })).op, 'ok');
  assert.deepEqual((await ws.take(2)).map((m) => m.data), ['2', '3']);
});

test('subscribe with a cursor that cannot be honoured: ok, gap, what is kept', async (t) => {
  const server = await startServer(t, ['--history', '2']);
  const ids = await publishMany(server, 'a', numbered('m', 6));
  const ws = await openWs(t, server);
  assert.equal((await ws.command({ op: 'subscribe', channel: 'a', since: ids[0] })).op, 'ok');
  assert.deepEqual(await ws.next(), { op: 'gap', channel: 'a', reason: 'expired', since: ids[0], cursor: ids[3] });
  assert.deepEqual((await ws.take(2)).map((m) => m.data), ['m4', 'm5']);
});

test('a gap of the query comes after ready and before messages', async (t) => {
  const server = await startServer(t, ['--history', '1']);
  const ids = await publishMany(server, 'a', ['1', '2', '3']);
  const ws = await openWs(t, server, `/ws?channel=a&since=${ids[0]}`);
  assert.deepEqual(await ws.next(), { op: 'gap', channel: 'a', reason: 'expired', since: ids[0], cursor: ids[1] });
  assert.equal((await ws.next()).data, '3');
});

test('long history comes complete and in order, with live messages behind it', async (t) => {
  const server = await startServer(t, ['--history', '5000', '--outbox-messages', '200']);
  const texts = numbered('m', 3000);
  for (let i = 0; i < 3000; i += 1000) await publishMany(server, 'a', texts.slice(i, i + 1000));
  const ws = await openWs(t, server, '/ws?channel=a&history=3000');
  await publish(server, 'a', 'live');
  assert.deepEqual((await ws.take(3001)).map((m) => m.data), [...texts, 'live']);
});

test('unsubscribe: ok, and no message of it after that', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server, '/ws?channel=a&channel=fence');
  assert.deepEqual(await ws.command({ op: 'unsubscribe', channel: 'a', ref: 'u' }), { op: 'ok', ref: 'u', channel: 'a' });
  await publish(server, 'a', 'unheard');
  await publish(server, 'fence', 'x');
  assert.equal((await ws.next()).channel, 'fence');
  assert.equal((await ws.command({ op: 'subscribe', channel: 'a' })).op, 'ok');
  await publish(server, 'a', 'heard');
  assert.equal((await ws.next()).data, 'heard');
});

test('subscribing twice and unsubscribing what is not subscribed are errors', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server, '/ws?channel=a');
  const twice = await ws.command({ op: 'subscribe', channel: 'a' });
  assert.deepEqual([twice.op, twice.code, typeof twice.message], ['error', 'already_subscribed', 'string']);
  const never = await ws.command({ op: 'unsubscribe', channel: 'b' });
  assert.deepEqual([never.op, never.code], ['error', 'not_subscribed']);
  await publish(server, 'a', 'still here');
  assert.equal((await ws.next()).data, 'still here');
});

test('publish: ok with the id; the publisher hears it too, with its client', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server, '/ws?channel=a');
  const other = await openWs(t, server, '/ws?channel=a');
  ws.send({ op: 'publish', channel: 'a', data: { n: 1 }, event: 'tick', ref: 9 });
  const frames = await ws.take(2);
  const ok = frames.find((m) => m.op === 'ok');
  const heard = frames.find((m) => m.op === 'message');
  assert.deepEqual(ok, { op: 'ok', ref: 9, channel: 'a', id: heard.id });
  assert.deepEqual(heard, { op: 'message', channel: 'a', id: ok.id, event: 'tick', data: { n: 1 }, time: heard.time, client: ws.ready.client });
  assert.deepEqual(await other.next(), heard);
});

for (const [what, data] of [
  ['an object with odd spacing', '{ "b":1 , "a" : [ 1.50, 1e2 ] }'],
  ['a number', '-0.10e+5'],
  ['a big number', '123456789012345678901234567890'],
  ['a string', '"h\\u00e9llo \\n \\"x\\""'],
  ['true', 'true'],
  ['null', 'null'],
  ['an array', '[1, "2", null]'],
  ['members like a command\'s', '{"op":"subscribe","channel":"x","data":1,"ref":3}'],
]) {
  test(`publish forwards ${what} byte for byte`, async (t) => {
    const server = await startServer(t);
    const sse = await openSse(t, server, { channel: 'a' });
    await sse.ready();
    const ws = await openWs(t, server);
    ws.send(`{"ref":1,"data":${data},"op":"publish","channel":"a"}`);
    assert.equal((await ws.next()).op, 'ok');
    const kept = await get(server, '/api/channels/a/history');
    const event = await sse.events.next();
    if (data.startsWith('"')) {
      // A string is a text message: its characters count, not how they were escaped.
      assert.equal(kept.json().messages[0].data, JSON.parse(data));
      assert.equal(event.data, JSON.parse(data));
      return;
    }
    assert.ok(kept.text.includes(`"data":${data},"time":`), kept.text);
    assert.equal(event.data, data);
  });
}

test('echo:false keeps the message from the publishing connection only', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server, '/ws?channel=a');
  const other = await openWs(t, server, '/ws?channel=a');
  assert.equal((await ws.command({ op: 'publish', channel: 'a', data: 'quiet', echo: false })).op, 'ok');
  await publish(server, 'a', 'fence');
  assert.equal((await ws.next()).data, 'fence');
  assert.deepEqual((await other.take(2)).map((m) => m.data), ['quiet', 'fence']);
  assert.deepEqual((await history(server, 'a')).messages.map((m) => m.data), ['quiet', 'fence']);
});

test('the same key publishes once; with another body it is refused', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server, '/ws?channel=a');
  const command = { op: 'publish', channel: 'a', data: 'once', key: 'k1', echo: false };
  const first = await ws.command(command);
  assert.equal('repeated' in first, false);
  const second = await ws.command(command);
  assert.deepEqual(second, { op: 'ok', ref: 2, channel: 'a', id: first.id, repeated: true });
  const conflict = await ws.command({ ...command, data: 'other' });
  assert.deepEqual([conflict.op, conflict.code], ['error', 'idempotency_conflict']);
  assert.equal((await ws.command({ ...command, channel: 'b' })).repeated, undefined, 'keys belong to channels');
  assert.deepEqual((await history(server, 'a')).messages.map((m) => m.data), ['once']);
});

test('publish in base64 makes a binary message', async (t) => {
  const server = await startServer(t);
  const raw = await openWs(t, server, '/ws?channel=a&format=raw');
  const ws = await openWs(t, server);
  assert.equal((await ws.command({ op: 'publish', channel: 'a', data: 'AAH/', encoding: 'base64' })).op, 'ok');
  assert.deepEqual(await raw.frames.next(), Buffer.from([0, 1, 255]));
  const wrong = await ws.command({ op: 'publish', channel: 'a', data: '%%%', encoding: 'base64' });
  assert.deepEqual([wrong.op, wrong.code], ['error', 'bad_encoding']);
  const unknown = await ws.command({ op: 'publish', channel: 'a', data: 'AAH/', encoding: 'hex' });
  assert.deepEqual([unknown.op, unknown.code], ['error', 'bad_encoding']);
});

test('presence: who is here, over which transport', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server, '/ws?channel=chat:x');
  const sse = await openSse(t, server, { channel: 'chat:x' });
  const { client } = await sse.ready();
  const answer = await ws.command({ op: 'presence', channel: 'chat:x' });
  assert.deepEqual([answer.op, answer.channel, answer.total], ['ok', 'chat:x', 2]);
  const byClient = Object.fromEntries(answer.members.map((m) => [m.client, m]));
  assert.equal(byClient[ws.ready.client].transport, 'ws');
  assert.equal(byClient[client].transport, 'sse');
  assert.ok(Math.abs(byClient[client].since - Date.now()) < 60000);
  const none = await ws.command({ op: 'presence', channel: 'a' });
  assert.deepEqual([none.op, none.code], ['error', 'no_presence']);
});

test('join and leave are told to the subscribers of a namespace with notices', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server, '/ws?channel=chat:x');
  const other = await openWs(t, server);
  await other.command({ op: 'subscribe', channel: 'chat:x' });
  const [join] = (await ws.upTo((m) => m.op === 'join' && m.client === other.ready.client)).slice(-1);
  assert.deepEqual(join, { op: 'join', channel: 'chat:x', client: other.ready.client, subscribers: 2 });
  await other.command({ op: 'unsubscribe', channel: 'chat:x' });
  assert.deepEqual(await ws.next(), { op: 'leave', channel: 'chat:x', client: other.ready.client, subscribers: 1 });
  const third = await openWs(t, server, '/ws?channel=chat:x');
  assert.equal((await ws.next()).client, third.ready.client);
  third.socket.terminate();
  assert.deepEqual(await ws.next(), { op: 'leave', channel: 'chat:x', client: third.ready.client, subscribers: 1 });
});

test('namespaces without notices are silent', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server, '/ws?channel=a');
  await openWs(t, server, '/ws?channel=a');
  await publish(server, 'a', 'fence');
  assert.equal((await ws.next()).data, 'fence');
});

test('history: reads without subscribing', async (t) => {
  const server = await startServer(t, ['--history', '4']);
  const ids = await publishMany(server, 'a', numbered('m', 6));
  const ws = await openWs(t, server);
  const all = await ws.command({ op: 'history', channel: 'a' });
  assert.deepEqual(Object.keys(all), ['op', 'ref', 'channel', 'messages', 'cursor', 'complete']);
  assert.deepEqual([all.op, all.channel, all.complete, all.cursor], ['ok', 'a', true, ids[5]]);
  assert.deepEqual(all.messages.map((m) => m.data), ['m2', 'm3', 'm4', 'm5']);
  const page = await ws.command({ op: 'history', channel: 'a', since: ids[2], limit: 2 });
  assert.deepEqual([page.complete, page.cursor], [false, ids[4]]);
  assert.deepEqual(page.messages.map((m) => m.data), ['m3', 'm4']);
  const newest = await ws.command({ op: 'history', channel: 'a', limit: 2, reverse: true });
  assert.deepEqual(newest.messages.map((m) => m.data), ['m5', 'm4']);
  const before = await ws.command({ op: 'history', channel: 'a', since: newest.cursor, limit: 2, reverse: true });
  assert.deepEqual(before.messages.map((m) => m.data), ['m3', 'm2']);
  const gap = await ws.command({ op: 'history', channel: 'a', since: ids[0] });
  assert.deepEqual(gap.gap, { channel: 'a', reason: 'expired', since: ids[0], cursor: ids[1] });
  await publish(server, 'a', 'fence');
  assert.equal((await ws.command({ op: 'ping' })).op, 'pong');
  assert.deepEqual(ws.before, [], 'nothing was subscribed');
});

test('ping answers pong', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server);
  assert.deepEqual(await ws.command({ op: 'ping', ref: 6 }), { op: 'pong', ref: 6 });
  ws.send({ op: 'ping' });
  assert.deepEqual(await ws.next(), { op: 'pong' });
});

for (const ref of [0, -7, 12345678901234567890n, '1.50', '1e3', '"x"', '"\\u00e9\\n\\"q\\""', `"${'r'.repeat(62)}"`]) {
  test(`ref ${ref} comes back as it was`, async (t) => {
    const server = await startServer(t);
    const ws = await openWs(t, server);
    ws.send(`{"op":"ping","ref":${ref}}`);
    assert.equal(await ws.frames.next(), `{"op":"pong","ref":${ref}}`);
    ws.send(`{"op":"unheard of","ref":${ref}}`);
    assert.ok((await ws.frames.next()).startsWith(`{"op":"error","ref":${ref},"code":"unknown_op"`));
  });
}

for (const ref of ['{}', '[1]', 'true', 'null', `"${'r'.repeat(80)}"`]) {
  test(`ref ${ref.slice(0, 8)} is refused with bad_ref`, async (t) => {
    const server = await startServer(t);
    const ws = await openWs(t, server);
    ws.send(`{"op":"ping","ref":${ref}}`);
    const answer = await ws.next();
    assert.deepEqual([answer.op, answer.code, 'ref' in answer], ['error', 'bad_ref', false]);
  });
}

for (const [what, text, code] of [
  ['no JSON', 'hello', 'bad_json'],
  ['half of an object', '{"op":"ping"', 'bad_json'],
  ['an empty frame', '', 'bad_json'],
  ['two objects', '{"op":"ping"}{"op":"ping"}', 'bad_json'],
  ['an array', '[{"op":"ping"}]', 'bad_json'],
  ['a string', '"ping"', 'bad_json'],
  ['no op', '{"channel":"a"}', 'bad_op'],
  ['an op that is no string', '{"op":7}', 'bad_op'],
  ['an unknown op', '{"op":"dance"}', 'unknown_op'],
  ['auth before keys can be configured', '{"op":"auth","token":"t"}', 'auth_not_configured'],
  ['subscribe without a channel', '{"op":"subscribe"}', 'missing_channel'],
  ['publish without a channel', '{"op":"publish","data":1}', 'missing_channel'],
  ['a bad channel', '{"op":"subscribe","channel":"a b"}', 'bad_channel'],
  ['an empty channel', '{"op":"subscribe","channel":""}', 'bad_channel'],
  ['a bad cursor', '{"op":"subscribe","channel":"a","since":"!"}', 'bad_cursor'],
  ['a bad history', '{"op":"subscribe","channel":"a","history":-1}', 'bad_history'],
  ['a history that is too long', '{"op":"subscribe","channel":"a","history":100001}', 'bad_history'],
  ['a history that is no number', '{"op":"subscribe","channel":"a","history":"ten"}', 'bad_history'],
  ['a bad event', '{"op":"publish","channel":"a","data":1,"event":"a\\nb"}', 'bad_event'],
  ['a reserved event', '{"op":"publish","channel":"a","data":1,"event":"crier.gap"}', 'bad_event'],
  ['a bad key', '{"op":"publish","channel":"a","data":1,"key":""}', 'bad_key'],
  ['a bad limit', '{"op":"history","channel":"a","limit":0}', 'bad_limit'],
]) {
  test(`${what}: ${code}, and the connection stays`, async (t) => {
    const server = await startServer(t);
    const ws = await openWs(t, server);
    ws.send(text);
    const answer = await ws.next();
    assert.deepEqual([answer.op, answer.code, typeof answer.message], ['error', code, 'string']);
    assert.ok(answer.message.length > 0);
    assert.equal((await ws.command({ op: 'ping' })).op, 'pong');
  });
}

test('an empty since counts as absent, unknown members are ignored', async (t) => {
  const server = await startServer(t);
  await publish(server, 'a', 'earlier');
  const ws = await openWs(t, server);
  assert.equal((await ws.command({ op: 'subscribe', channel: 'a', since: '', colour: { deep: ['x'] } })).op, 'ok');
  await publish(server, 'a', 'now');
  assert.equal((await ws.next()).data, 'now');
});

test('commands to the bus are answered in the order they were sent', async (t) => {
  const server = await startServer(t, ['--workers', '2', '--history', '1000']);
  const ws = await openWs(t, server);
  for (let i = 0; i < 200; i++) {
    const channel = `c${i % 7}`;
    const ops = [{ op: 'publish', channel, data: i }, { op: 'history', channel, limit: 1 }, { op: 'presence', channel: 'chat:x' }];
    ws.send({ ...ops[i % 3], ref: i });
  }
  assert.deepEqual((await ws.take(200)).map((m) => m.ref), Array.from({ length: 200 }, (_, i) => i));
});

test('commands in one breath: each gets one answer with its ref, whatever is wrong with the others', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server);
  const said = [
    [{ op: 'subscribe', channel: 'a' }, 'ok'],
    [{ op: 'subscribe', channel: 'a' }, 'already_subscribed'],
    [{ op: 'dance' }, 'unknown_op'],
    [{ op: 'publish', channel: 'a', data: 1, echo: false }, 'ok'],
    [{ op: 'publish', channel: 'a' }, 'bad_body'],
    [{ op: 'publish', channel: 'a', data: 1, echo: 'no' }, 'bad_parameter'],
    [{ op: 'publish', channel: 'a', data: '*', encoding: 'base64' }, 'bad_encoding'],
    [{ op: 'publish', data: 1 }, 'missing_channel'],
    [{ op: 'publish', channel: 'a', data: 1, key: '' }, 'bad_key'],
    [{ op: 'publish', channel: 'a', data: 1, event: '' }, 'ok'],
    [{ op: 'presence', channel: 'a' }, 'no_presence'],
    [{ op: 'presence', channel: 'a', limit: 0 }, 'bad_limit'],
    [{ op: 'presence', channel: 'chat:x' }, 'ok'],
    [{ op: 'history', channel: 'a', since: 'x' }, 'bad_cursor'],
    [{ op: 'history', channel: 'a', reverse: 1 }, 'bad_parameter'],
    [{ op: 'history', channel: 'a', unknown: { members: ['are', 'ignored'] } }, 'ok'],
    [{ op: 'unsubscribe', channel: 'b' }, 'not_subscribed'],
    [{ op: 'auth', token: 'x' }, 'auth_not_configured'],
    [{ op: 'ping' }, 'pong'],
    [{ op: 7 }, 'bad_op'],
    [{ op: 'unsubscribe', channel: 'a' }, 'ok'],
  ];
  ws.socket._socket.cork();
  said.forEach(([command], i) => ws.send({ ...command, ref: `r${i}` }));
  ws.socket._socket.uncork();
  const answers = new Map();
  while (answers.size < said.length) {
    const m = await ws.next();
    if (m.op === 'message') continue;
    assert.equal(answers.has(m.ref), false, `a second answer to ${m.ref}`);
    answers.set(m.ref, m.op === 'error' ? m.code : m.op);
  }
  assert.deepEqual(said.map((_, i) => answers.get(`r${i}`)), said.map(([, answer]) => answer));
  const inBus = ['r0', 'r3', 'r9', 'r10', 'r12', 'r15'];
  assert.deepEqual([...answers.keys()].filter((ref) => inBus.includes(ref)), inBus);
});

test('subscribe, unsubscribe and subscribe again in one breath', async (t) => {
  const server = await startServer(t, ['--workers', '2']);
  const ws = await openWs(t, server);
  for (let i = 0; i < 51; i++) ws.send({ op: i % 2 ? 'unsubscribe' : 'subscribe', channel: 'a', ref: i });
  const answers = await ws.take(51);
  assert.deepEqual(answers.map((m) => [m.op, m.ref]), Array.from({ length: 51 }, (_, i) => ['ok', i]));
  await publish(server, 'a', 'once');
  await publish(server, 'a', 'fence');
  assert.deepEqual((await ws.take(2)).map((m) => m.data), ['once', 'fence']);
});

test('128 channels, not 129', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server, `/ws?${numbered('channel=c', 127).join('&')}`);
  assert.equal(ws.ready.channels.length, 127);
  assert.equal((await ws.command({ op: 'subscribe', channel: 'c127' })).op, 'ok');
  const over = await ws.command({ op: 'subscribe', channel: 'c128' });
  assert.deepEqual([over.op, over.code], ['error', 'too_many_channels']);
  await ws.command({ op: 'unsubscribe', channel: 'c0' });
  assert.equal((await ws.command({ op: 'subscribe', channel: 'c128' })).op, 'ok');
  const refused = await refusedWs(server, `/ws?${numbered('channel=c', 129).join('&')}`);
  assert.deepEqual([refused.status, refused.json().code], [400, 'too_many_channels']);
});

test('a binary frame is closed with 1003', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server);
  ws.send(Buffer.from('{"op":"ping"}'));
  assert.equal((await ws.closed).code, 1003);
});

test('a message that is too big is closed with 1009, the largest is not', async (t) => {
  const server = await startServer(t, ['--max-message', '1k']);
  const ws = await openWs(t, server, '/ws?channel=a');
  const data = 'x'.repeat(1024);
  ws.send({ op: 'publish', channel: 'a', data });
  const frames = await ws.take(2);
  assert.equal(frames.find((m) => m.op === 'message').data, data);
  ws.send({ op: 'publish', channel: 'a', data: 'x'.repeat(200000) });
  assert.equal((await ws.closed).code, 1009);
});

test('a payload over the limit in a frame that fits is too_large', async (t) => {
  const server = await startServer(t, ['--max-message', '1k']);
  const ws = await openWs(t, server);
  const answer = await ws.command({ op: 'publish', channel: 'a', data: 'x'.repeat(1030) });
  assert.deepEqual([answer.op, answer.code], ['error', 'too_large']);
});

test('a client that closes gets its code back and is forgotten', async (t) => {
  const server = await startServer(t);
  const ws = await openWs(t, server, '/ws?channel=a');
  await server.connected({ ws: 1 });
  assert.equal((await ws.close(1000)).code, 1000);
  const other = await openWs(t, server, '/ws?channel=a');
  assert.equal((await other.close(4321)).code, 4321);
  await server.connected({ ws: 0 });
});
