// GET and POST /chat/ROOM.

import assert from 'node:assert/strict';
import test from 'node:test';
import { get, history, postJson, publish, request } from './lib/http.js';
import { poll } from './lib/poll.js';
import { startServer } from './lib/server.js';
import { openSse } from './lib/sse.js';
import { openWs } from './lib/wsclient.js';

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

async function joinRoom(t, server, room, suffix = '') {
  const ws = await openWs(t, server, `/chat/${room}${suffix}`);
  ws.welcome = await ws.next('the welcome');
  ws.id = ws.welcome.client_id;
  return ws;
}

const isJoin = (who) => (m) => m.message === `${who} joined the room`;

async function joinRoomSse(t, server, room) {
  const sse = await openSse(t, server, {}, { path: `/chat/${room}` });
  for (;;) {
    const event = await sse.events.next('the welcome');
    if (event.event !== 'message') continue;
    sse.welcome = JSON.parse(event.data);
    sse.id = sse.welcome.client_id;
    return sse;
  }
}

async function nextSse(sse) {
  return JSON.parse((await sse.events.next()).data);
}

test('the joiner is welcomed', async (t) => {
  const server = await startServer(t);
  const { welcome } = await joinRoom(t, server, 'lobby');
  assert.match(welcome.client_id, /^c[0-9A-Za-z_-]{11}$/);
  assert.match(welcome.timestamp, ISO);
  assert.ok(Math.abs(Date.parse(welcome.timestamp) - Date.now()) < 60000);
  assert.deepEqual(welcome, {
    type: 'system',
    message: `Welcome to room lobby. You are ${welcome.client_id}.`,
    client_id: welcome.client_id,
    timestamp: welcome.timestamp,
  });
  assert.deepEqual(Object.keys(welcome), ['type', 'message', 'client_id', 'timestamp']);
});

test('the others are told who joined and left; the joiner is not told of itself', async (t) => {
  const server = await startServer(t);
  const first = await joinRoom(t, server, 'lobby');
  const second = await joinRoom(t, server, 'lobby');
  const join = await first.next();
  assert.deepEqual(join, { type: 'system', message: `${second.id} joined the room`, timestamp: join.timestamp, room: 'lobby' });
  assert.match(join.timestamp, ISO);
  first.send({ content: 'fence' });
  assert.equal((await second.next()).content, 'fence', 'no notice of its own join came before');
  assert.equal((await first.next()).content, 'fence');
  second.socket.terminate();
  const leave = await first.next();
  assert.deepEqual(leave, { type: 'system', message: `${second.id} left the room`, timestamp: leave.timestamp });
  assert.match(leave.timestamp, ISO);
});

test('everyone gets a message, the sender too', async (t) => {
  const server = await startServer(t);
  const first = await joinRoom(t, server, 'lobby');
  const second = await joinRoom(t, server, 'lobby');
  await first.next();
  second.send({ content: 'Grüße "an" alle\n<b>' });
  const [a, b] = [await first.next(), await second.next()];
  assert.deepEqual(a, { type: 'message', client_id: second.id, content: 'Grüße "an" alle\n<b>', timestamp: a.timestamp, room: 'lobby' });
  assert.deepEqual(Object.keys(a), ['type', 'client_id', 'content', 'timestamp', 'room']);
  assert.match(a.timestamp, ISO);
  assert.deepEqual(b, a);
});

test('what is not JSON gets an error, and the connection stays', async (t) => {
  const server = await startServer(t);
  const ws = await joinRoom(t, server, 'lobby');
  for (const text of ['hello', '{"content":', '', '{"content":"a"} x']) {
    ws.send(text);
    assert.deepEqual(await ws.next(), { type: 'error', message: 'Invalid JSON format' }, text);
  }
  for (const text of ['{}', '[]', '42', 'null', '"content"', '{"content":7}', '{"content":null}', '{"text":"x"}']) {
    ws.send(text);
    assert.deepEqual(await ws.next(), { type: 'error', message: 'Expected {"content": "…"}' }, text);
  }
  ws.send({ content: 'still here' });
  assert.equal((await ws.next()).content, 'still here');
});

test('errors are told to the sender only', async (t) => {
  const server = await startServer(t);
  const first = await joinRoom(t, server, 'lobby');
  const second = await joinRoom(t, server, 'lobby');
  await first.next();
  second.send('nonsense');
  assert.equal((await second.next()).type, 'error');
  second.send({ content: 'fence' });
  assert.equal((await first.next()).content, 'fence');
});

test('content keeps its escapes and unknown members go', async (t) => {
  const server = await startServer(t);
  const ws = await joinRoom(t, server, 'lobby');
  ws.send('{"x":1,"content":"a\\u00e9\\ud83d\\ude00\\\\","type":"system"}');
  const m = await ws.next();
  assert.equal(m.content, 'aé😀\\');
  assert.equal(m.type, 'message');
  assert.deepEqual(Object.keys(m), ['type', 'client_id', 'content', 'timestamp', 'room']);
});

test('rooms do not hear each other', async (t) => {
  const server = await startServer(t);
  const here = await joinRoom(t, server, 'here');
  const there = await joinRoom(t, server, 'there');
  there.send({ content: 'unheard' });
  await there.next();
  here.send({ content: 'fence' });
  assert.equal((await here.next()).content, 'fence');
});

test('the room is percent-decoded, and may have a slash', async (t) => {
  const server = await startServer(t);
  const ws = await joinRoom(t, server, 'tea%3aroom%2Fa');
  assert.ok(ws.welcome.message.startsWith('Welcome to room tea:room/a. '), ws.welcome.message);
  const plain = await joinRoom(t, server, 'tea:room/a');
  assert.equal((await ws.next()).message, `${plain.id} joined the room`);
});

test('over EventSource: the welcome carries a post key', async (t) => {
  const server = await startServer(t);
  const sse = await joinRoomSse(t, server, 'lobby');
  assert.match(sse.head.headers['content-type'], /^text\/event-stream/);
  assert.match(sse.welcome.message, /^Welcome to room lobby\. You are c\S{11}\.$/);
  assert.ok(sse.welcome.post_key.length >= 16, 'a key that cannot be guessed');
  const ws = await joinRoom(t, server, 'lobby');
  assert.equal((await nextSse(sse)).message, `${ws.id} joined the room`);
  const answer = await postJson(server, `/chat/lobby?client=${sse.id}&key=${encodeURIComponent(sse.welcome.post_key)}`, { content: 'by post' });
  assert.equal(answer.status, 200);
  assert.equal(answer.json().channel, 'chat:lobby');
  const heard = await ws.next();
  assert.deepEqual(heard, { type: 'message', client_id: sse.id, content: 'by post', timestamp: heard.timestamp, room: 'lobby' });
  assert.deepEqual(await nextSse(sse), heard);
  sse.close();
  assert.equal((await ws.next()).message, `${sse.id} left the room`);
});

test('a wrong post key is refused', async (t) => {
  const server = await startServer(t);
  const sse = await joinRoomSse(t, server, 'lobby');
  const other = await joinRoomSse(t, server, 'other');
  for (const q of [`client=${sse.id}&key=wrong`, `client=${sse.id}`, `client=${sse.id}&key=${other.welcome.post_key}`, `client=${other.id}&key=${sse.welcome.post_key}`]) {
    const answer = await postJson(server, `/chat/lobby?${q}`, { content: 'x' });
    assert.deepEqual([answer.status, answer.json().code], [403, 'bad_post_key'], q);
  }
});

test('a post without a client speaks as one of its own', async (t) => {
  const server = await startServer(t);
  const ws = await joinRoom(t, server, 'lobby');
  const answer = await postJson(server, '/chat/lobby', { content: 'hello' });
  assert.equal(answer.status, 200);
  const heard = await ws.next();
  assert.equal(heard.content, 'hello');
  assert.match(heard.client_id, /^c[0-9A-Za-z_-]{11}$/);
  assert.notEqual(heard.client_id, ws.id);
});

test('a post that is no chat message is refused', async (t) => {
  const server = await startServer(t);
  const notJson = await request(server, '/chat/lobby', { method: 'POST', body: 'hello' });
  assert.deepEqual([notJson.status, notJson.json().code], [400, 'bad_json']);
  const noContent = await postJson(server, '/chat/lobby', { text: 'x' });
  assert.deepEqual([noContent.status, noContent.json().code], [400, 'bad_body']);
  const tooLarge = await postJson(server, '/chat/lobby', { content: 'x'.repeat(70000) });
  assert.deepEqual([tooLarge.status, tooLarge.json().code], [413, 'too_large']);
});

test('neither upgrade nor EventSource: 426', async (t) => {
  const server = await startServer(t);
  const answer = await get(server, '/chat/lobby');
  assert.deepEqual([answer.status, answer.json().code], [426, 'upgrade_required']);
});

test('a bad room name is refused', async (t) => {
  const server = await startServer(t);
  for (const room of ['a%20b', '%00', 'x'.repeat(196), '']) {
    const answer = await get(server, `/chat/${room}`, { headers: { Accept: 'text/event-stream' } });
    assert.ok([400, 404].includes(answer.status), `${room}: ${answer.status}`);
    assert.match(answer.headers['content-type'], /^application\/problem\+json/);
    if (room) assert.equal(answer.json().code, 'bad_channel');
  }
});

test('the room is a channel: ordered, kept, readable on every transport', async (t) => {
  const server = await startServer(t);
  const { cursor } = await poll(server, { channel: 'chat:lobby' });
  const sse = await openSse(t, server, { channel: 'chat:lobby', format: 'json' });
  const ready = await sse.ready();
  const ws = await joinRoom(t, server, 'lobby');
  ws.send({ content: 'hello' });
  await ws.upTo((m) => m.content === 'hello');
  await ws.close();
  const events = await sse.events.upTo((e) => e.data.includes(`${ws.id} left the room`));
  const data = events.map((e) => JSON.parse(e.data).data);
  assert.deepEqual(data.map((d) => d.type), ['system', 'message', 'system']);
  assert.ok(isJoin(ws.id)(data[0]));
  const polled = await poll(server, { channel: 'chat:lobby', since: cursor });
  assert.deepEqual(polled.messages.map((m) => m.data), data);
  assert.deepEqual((await history(server, 'chat:lobby')).messages.map((m) => m.data), data);
  const resumed = await openWs(t, server, `/ws?channel=chat:lobby&since=${ready.cursor}`);
  const kept = await resumed.upTo((m) => m.op === 'message' && m.data.message === `${ws.id} left the room`);
  assert.deepEqual(kept.filter((m) => m.op === 'message').map((m) => m.data), data);
});

test('history and since in a room', async (t) => {
  const server = await startServer(t);
  const first = await joinRoom(t, server, 'lobby');
  for (const content of ['1', '2', '3']) first.send({ content });
  await first.take(3);
  const later = await joinRoom(t, server, 'lobby', '?history=2');
  assert.deepEqual((await later.take(2)).map((m) => m.content), ['2', '3']);
  const kept = (await history(server, 'chat:lobby')).messages.filter((m) => m.data.type === 'message');
  const resumed = await joinRoom(t, server, 'lobby', `?since=${kept[0].id}`);
  const seen = await resumed.upTo((m) => m.content === '3');
  assert.deepEqual(seen.filter((m) => m.type === 'message').map((m) => m.content), ['2', '3']);
});

test('what is published into the room from outside is heard', async (t) => {
  const server = await startServer(t);
  const ws = await joinRoom(t, server, 'lobby');
  await publish(server, 'chat:lobby', '{"type":"system","message":"closing soon"}', { type: 'application/json' });
  assert.deepEqual(await ws.next(), { type: 'system', message: 'closing soon' });
});

test('stats count the rooms', async (t) => {
  const server = await startServer(t);
  const one = await joinRoom(t, server, 'lobby');
  await joinRoom(t, server, 'lobby');
  await joinRoomSse(t, server, 'tea');
  const stats = await server.stats();
  assert.deepEqual(stats.rooms, { lobby: 2, tea: 1 });
  await one.close();
  await server.connected({ ws: 1, sse: 1 });
  assert.deepEqual((await server.stats()).rooms, { lobby: 1, tea: 1 });
});

test('who has heard that somebody joined or left finds it so in the presence', async (t) => {
  const server = await startServer(t, ['--workers', '2']);
  const first = await joinRoom(t, server, 'lobby');
  const people = async () => (await get(server, '/api/channels/chat:lobby/presence')).json().members.map((m) => m.client);
  for (let i = 0; i < 10; i++) {
    const second = await joinRoom(t, server, 'lobby');
    assert.ok(isJoin(second.id)(await first.next()));
    assert.ok((await people()).includes(second.id), 'joined');
    second.socket.terminate();
    assert.equal((await first.next()).message, `${second.id} left the room`);
    assert.ok(!(await people()).includes(second.id), 'left');
  }
});

test('presence lists who is in the room', async (t) => {
  const server = await startServer(t, ['--workers', '2']);
  const people = [await joinRoom(t, server, 'lobby'), await joinRoom(t, server, 'lobby'), await joinRoomSse(t, server, 'lobby')];
  const answer = (await get(server, '/api/channels/chat:lobby/presence')).json();
  assert.equal(answer.total, 3);
  assert.deepEqual(answer.members.map((m) => m.client).sort(), people.map((p) => p.id).sort());
  const limited = (await get(server, '/api/channels/chat:lobby/presence?limit=1')).json();
  assert.deepEqual([limited.members.length, limited.total], [1, 3]);
});
