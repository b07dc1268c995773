// The opening handshake of a WebSocket on HTTP/1.1 (RFC 6455 4).

import assert from 'node:assert/strict';
import test from 'node:test';
import { rawConnect } from './lib/raw.js';
import { startServer } from './lib/server.js';
import { acceptOf, openRawWs, upgradeRequest } from './lib/wsraw.js';

async function refused(t, server, fields, path = '/ws?channel=a') {
  const raw = await rawConnect(t, server);
  raw.send(upgradeRequest(server, path, fields));
  return raw.answer();
}

test('the handshake: 101 with the accept of the key', async (t) => {
  const server = await startServer(t);
  const ws = await openRawWs(t, server, '/ws?channel=a');
  assert.equal(ws.head.line.split(' ')[1], '101');
  assert.equal(ws.head.headers['sec-websocket-accept'], acceptOf());
  assert.equal(ws.head.headers.upgrade.toLowerCase(), 'websocket');
  assert.match(ws.head.headers.connection, /upgrade/i);
  assert.equal(ws.head.headers['sec-websocket-protocol'], undefined);
  assert.equal(ws.head.headers['sec-websocket-extensions'], undefined);
});

test('Connection: keep-alive, Upgrade and upper case are understood (Firefox)', async (t) => {
  const server = await startServer(t);
  const ws = await openRawWs(t, server, '/ws?channel=a', { fields: { Connection: 'keep-alive, Upgrade', Upgrade: 'WebSocket' } });
  assert.equal(ws.ready.op, 'ready');
});

test('a wrong version gets 426 with the right one', async (t) => {
  const server = await startServer(t);
  for (const version of ['8', '14', 'x', null]) {
    const answer = await refused(t, server, { 'Sec-WebSocket-Version': version });
    assert.equal(answer.status, 426, `version ${version}`);
    assert.equal(answer.headers['sec-websocket-version'], '13');
    assert.equal(answer.json().code, 'upgrade_required');
  }
});

test('a request that is not an upgrade gets 426 with Upgrade: websocket', async (t) => {
  const server = await startServer(t);
  const raw = await rawConnect(t, server);
  raw.send(`GET /ws?channel=a HTTP/1.1\r\nHost: ${server.host}\r\n\r\n`);
  const answer = await raw.answer();
  assert.equal(answer.status, 426);
  assert.equal(answer.headers.upgrade, 'websocket');
  assert.equal(answer.json().code, 'upgrade_required');
});

test('a bad key gets 400', async (t) => {
  const server = await startServer(t);
  for (const key of ['short', 'dGhlIHNhbXBsZSBub25jZQ', '!!!!!!!!!!!!!!!!!!!!!!==', 'dGhlIHNhbXBsZSBub25jZTEyMzQ1Ng==', null]) {
    const answer = await refused(t, server, { 'Sec-WebSocket-Key': key });
    assert.equal(answer.status, 400, `key ${key}`);
    assert.match(answer.headers['content-type'], /^application\/problem\+json/);
  }
});
