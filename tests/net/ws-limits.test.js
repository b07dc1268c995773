// The limits of WebSockets: each an option, each closed with its code and counted, and what an
// attacker holds of the server's memory.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { constants, deflateRawSync } from 'node:zlib';
import { get, publish } from './lib/http.js';
import { startServer } from './lib/server.js';
import { until } from './lib/wait.js';
import { CARRIERS, openCarried } from './lib/wscarriers.js';
import { BINARY, CLOSE, closePayload, CONTINUE, frame, PING, PONG, TEXT } from './lib/wsraw.js';

const RAW = '/ws?format=raw&channel=a';

async function refused(server, reason) {
  return Number(new RegExp(`^crier_refused_total\\{reason="${reason}"\\} (\\d+)$`, 'm').exec((await get(server, '/metrics')).text)[1]);
}

const fragments = (n) => Array.from({ length: n }, (_, i) => frame(i ? CONTINUE : TEXT, 'x', { fin: i === n - 1 }));

for (const carrier of CARRIERS) {
  test(`${carrier}: --max-message`, async (t) => {
    const server = await startServer(t, ['--max-message', '1000', '--outbox-bytes', '64k']);
    const ws = await openCarried(t, server, carrier, RAW);
    ws.send(frame(BINARY, Buffer.alloc(1000)));
    assert.equal((await ws.frame()).payload.length, 1000);
    ws.send(frame(BINARY, '', { length: 1001, lengthBytes: 2 })); // announced is enough
    assert.equal((await ws.closed()).code, 1009);
    assert.equal(await refused(server, 'websocket_message_size'), 1);
  });

  test(`${carrier}: --ws-fragments`, async (t) => {
    const server = await startServer(t, ['--ws-fragments', '5']);
    const ws = await openCarried(t, server, carrier, RAW);
    ws.send(...fragments(5), ...fragments(5));
    for (let i = 0; i < 2; i++) assert.equal((await ws.frame()).payload.toString(), 'xxxxx');
    ws.send(...fragments(6));
    assert.equal((await ws.closed()).code, 1008);
    assert.equal(await refused(server, 'websocket_fragments'), 1);
  });

  test(`${carrier}: --ws-control-rate`, async (t) => {
    const server = await startServer(t, ['--ws-control-rate', '10']);
    const ws = await openCarried(t, server, carrier, RAW);
    ws.send(...Array.from({ length: 10 }, (_, i) => frame(i % 2 ? PING : PONG, `${i}`)), frame(TEXT, 'after ten'));
    const heard = [];
    while (heard.length < 6) heard.push(await ws.frame());
    assert.deepEqual(heard.map((f) => f.payload.toString()).sort(), ['1', '3', '5', '7', '9', 'after ten']);
    ws.send(...Array.from({ length: 1000 }, () => frame(PONG)), frame(TEXT, 'never'));
    assert.equal((await ws.closed()).code, 1008);
    await server.connected({ ws: 0 });
    const pings = await openCarried(t, server, carrier, RAW);
    pings.send(...Array.from({ length: 1000 }, () => frame(PING)));
    assert.equal((await pings.closed()).code, 1008);
    assert.equal(await refused(server, 'websocket_control_rate'), 2);
  });

  test(`${carrier}: messages are not counted as control frames, nor is a Close`, async (t) => {
    const server = await startServer(t, ['--ws-control-rate', '1']);
    const ws = await openCarried(t, server, carrier, '/ws');
    ws.send(frame(PING), ...Array.from({ length: 50 }, (_, i) => frame(TEXT, `{"op":"ping","ref":${i}}`)), frame(CLOSE, closePayload(1000)));
    assert.equal((await ws.frame()).opcode, PONG);
    for (let i = 0; i < 50; i++) assert.deepEqual(await ws.json(), { op: 'pong', ref: i });
    assert.equal((await ws.closed()).code, 1000);
  });

  for (const [what, pieces] of [
    ['half a frame header', [Buffer.from([0x81])]],
    ['half a control frame', [frame(PING, 'abc').subarray(0, 5)]],
    ['a fragment without an end', [frame(TEXT, 'x', { fin: false })]],
    ['a payload that does not come', [frame(TEXT, 'abc', { length: 100 })]],
    ['a whole message and half of another', [Buffer.concat([frame(TEXT, 'whole'), frame(TEXT, 'half').subarray(0, 4)])]],
  ]) {
    test(`${carrier}: --ws-message-timeout, ${what}`, async (t) => {
      const server = await startServer(t, ['--ws-message-timeout', '300ms']);
      const ws = await openCarried(t, server, carrier, RAW);
      ws.send(...pieces);
      assert.deepEqual(await ws.closed(), { code: 1008, reason: 'message took too long' });
      assert.equal(await refused(server, 'websocket_slow_message'), 1);
      await server.connected({ ws: 0 });
    });
  }

  test(`${carrier}: who trickles a message is closed, who is idle between messages stays`, async (t) => {
    const server = await startServer(t, ['--ws-message-timeout', '300ms']);
    const idle = await openCarried(t, server, carrier, RAW);
    idle.send(frame(TEXT, 'one'));
    assert.equal((await idle.frame()).payload.toString(), 'one');
    const slow = await openCarried(t, server, carrier, '/ws');
    slow.send(frame(TEXT, '{', { fin: false }));
    // Something comes all the time, pings too: it is the message that takes too long.
    const trickle = setInterval(() => slow.send(frame(PING), frame(CONTINUE, ' ', { fin: false })), 30);
    t.after(() => clearInterval(trickle));
    const { code } = await slow.closed();
    clearInterval(trickle);
    assert.equal(code, 1008);
    await publish(server, 'a', 'two');
    assert.equal((await idle.frame()).payload.toString(), 'two');
  });
}

test('half a message each, from many: what is held is given back', async (t) => {
  const server = await startServer(t, ['--workers', '1', '--ws-message-timeout', '1s']);
  const many = await Promise.all(Array.from({ length: 50 }, () => openCarried(t, server, 'HTTP/1.1', '/ws')));
  for (const ws of many) ws.send(frame(TEXT, 'x'.repeat(50000), { fin: false }));
  for (const ws of many) assert.equal((await ws.closed()).code, 1008);
  assert.equal(await refused(server, 'websocket_slow_message'), 50);
  await server.connected({ ws: 0 });
});

// Resident bytes; 0 when a sanitizer keeps what was freed.
function memory(server) {
  const { pid } = server.proc;
  if (/lib[atu]b?san/.test(readFileSync(`/proc/${pid}/maps`, 'latin1'))) return 0;
  return 1024 * Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))[1]);
}

// Sends without reading until the server has ended it, or has taken enough.
async function flood(ws, piece, ended) {
  let sent = 0;
  ws.raw.socket.on('error', () => {});
  while (!(await ended()) && sent < 64 * 2 ** 20) {
    await new Promise((resolve) => ws.raw.socket.write(piece, resolve));
    sent += piece.length;
  }
}

const zeros = deflateRawSync(Buffer.alloc(2 ** 24), { level: 9, finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4);
for (const [what, reason, pieces] of [
  ['fragments', 'websocket_fragments', Array.from({ length: 5000 }, (_, i) => frame(i ? CONTINUE : TEXT, 'x', { fin: false }))],
  ['empty fragments', 'websocket_fragments', Array.from({ length: 5000 }, (_, i) => frame(i ? CONTINUE : TEXT, '', { fin: false }))],
  ['pings', 'websocket_control_rate', Array.from({ length: 5000 }, () => frame(PING, 'x'.repeat(125)))],
  ['giants announced', 'websocket_message_size', [frame(BINARY, 'x', { length: 2 ** 40, lengthBytes: 8 })]],
  ['bombs', 'websocket_message_size', [frame(BINARY, zeros, { rsv: 4 })]],
  ['slow senders', 'websocket_slow_message', [frame(TEXT, 'x'.repeat(60000), { fin: false })]],
  ['slow senders that compress', 'websocket_slow_message', [frame(TEXT, deflateRawSync('x'.repeat(60000), { finishFlush: constants.Z_SYNC_FLUSH }), { rsv: 4, fin: false })]],
]) {
  test(`a flood of ${what} from 60 connections is bounded in memory`, async (t) => {
    const server = await startServer(t, ['--workers', '1', '--ws-message-timeout', '500ms']);
    const path = '/ws?channel=a';
    const fields = { 'Sec-WebSocket-Extensions': 'permessage-deflate' };
    const all = await Promise.all(Array.from({ length: 60 }, () => openCarried(t, server, 'HTTP/1.1', path, fields)));
    const before = memory(server);
    for (const ws of all) ws.send(...pieces);
    let most = before;
    await until(async () => {
      most = Math.max(most, memory(server));
      return (await refused(server, reason)) === all.length;
    }, 'all of them are closed');
    // At most a message of 132 KiB and an inflater of 40 KiB each.
    assert.ok(most - before < 60 * 200 * 1024 + 4 * 2 ** 20, `${most - before} bytes more`);
  });
}

test('who pings and never reads is closed', async (t) => {
  const server = await startServer(t, ['--workers', '1', '--ws-control-rate', '1000000', '--outbox-bytes', '128k']);
  const ws = await openCarried(t, server, 'HTTP/1.1', RAW);
  const before = memory(server);
  const slow = async () => /^crier_slow_clients_closed_total 1$/m.test((await get(server, '/metrics')).text);
  ws.raw.socket.pause();
  await flood(ws, Buffer.concat(Array.from({ length: 500 }, () => frame(PING, 'x'.repeat(125)))), slow);
  assert.ok(await slow());
  assert.ok(memory(server) - before < 8 * 2 ** 20);
});
