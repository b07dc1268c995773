// The opening handshake (RFC 6455 4.2, RFC 8441 5): every way to get it wrong, over HTTP/1.1 and as
// a stream of HTTP/2. What is agreed on about compression is in ws-deflate.test.js.

import assert from 'node:assert/strict';
import test from 'node:test';
import { openHttp2 } from './lib/http2.js';
import { rawConnect } from './lib/raw.js';
import { startServer } from './lib/server.js';
import { CARRIERS, shake } from './lib/wscarriers.js';
import { upgradeRequest } from './lib/wsraw.js';

const PATHS = ['/ws?channel=a', '/chat/lobby'];
const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';

for (const carrier of CARRIERS) {
  test(`${carrier}: a version that is not 13 gets 426 with the one that is`, async (t) => {
    const server = await startServer(t);
    for (const path of PATHS)
      for (const version of ['8', '12', '14', '013', '13, 8', 'thirteen', '', null]) {
        const { status, headers } = await shake(t, server, carrier, path, { 'Sec-WebSocket-Version': version });
        assert.deepEqual([status, headers['sec-websocket-version']], [426, '13'], `${path}, version ${version}`);
        assert.match(headers['content-type'], /^application\/problem\+json/);
      }
    await server.connected({ ws: 0 });
  });

  test(`${carrier}: a foreign origin gets 403`, async (t) => {
    const server = await startServer(t);
    for (const path of PATHS)
      for (const origin of ['https://evil.example', 'null', `${server.origin}.evil.example`])
        assert.equal((await shake(t, server, carrier, path, { Origin: origin })).status, 403, origin);
  });

  test(`${carrier}: what is wrong with the parameters gets 400`, async (t) => {
    const server = await startServer(t);
    for (const path of ['/ws?format=raw', '/ws?format=raw&channel=a&channel=b', '/ws?format=xml&channel=a', '/ws?channel=', '/ws?channel=a&since=nonsense'])
      assert.equal((await shake(t, server, carrier, path)).status, 400, path);
    assert.equal((await shake(t, server, carrier, '/no-such-path')).status, 404);
  });

  test(`${carrier}: the subprotocol is crier.v1 or none`, async (t) => {
    const server = await startServer(t);
    for (const [offered, taken] of [
      ['crier.v1', 'crier.v1'],
      ['graphql-ws, crier.v1', 'crier.v1'],
      [['graphql-ws', 'mqtt,crier.v1'], 'crier.v1'],
      ['crier.v2, mqtt', undefined],
      ['CRIER.V1', undefined],
      ['', undefined],
    ])
      for (const path of PATHS) {
        const { status, headers } = await shake(t, server, carrier, path, { 'Sec-WebSocket-Protocol': offered });
        assert.deepEqual([status, headers['sec-websocket-protocol']], [200, taken], `${offered}`);
      }
  });
}

test('HTTP/1.1: what is no upgrade gets 426 with Upgrade: websocket', async (t) => {
  const server = await startServer(t);
  for (const path of PATHS)
    for (const fields of [
      { Upgrade: null },
      { Upgrade: 'h2c' },
      { Upgrade: 'websockets' },
      { Connection: null },
      { Connection: 'keep-alive' },
      { Connection: 'upgraded' },
    ]) {
      const { status, headers } = await shake(t, server, 'HTTP/1.1', path, fields);
      assert.deepEqual([status, headers.upgrade, headers['sec-websocket-version']], [426, 'websocket', '13'], JSON.stringify(fields));
    }
  const raw = await rawConnect(t, server);
  raw.send(upgradeRequest(server, '/ws?channel=a').replace('HTTP/1.1', 'HTTP/1.0'));
  assert.equal((await raw.answer()).status, 426);
});

test('HTTP/1.1: lists may be in any case, with other tokens, in several fields', async (t) => {
  const server = await startServer(t);
  for (const fields of [
    { Upgrade: 'WebSocket', Connection: 'UPGRADE' },
    { Upgrade: 'h2c, websocket', Connection: 'keep-alive, Upgrade' },
    { Upgrade: ['h2c', 'websocket'], Connection: ['keep-alive', 'Upgrade'] },
  ])
    assert.equal((await shake(t, server, 'HTTP/1.1', '/ws?channel=a', fields)).status, 200, JSON.stringify(fields));
});

test('HTTP/1.1: keys that are none, and what may be there once, get 400', async (t) => {
  const server = await startServer(t);
  for (const path of PATHS)
    for (const fields of [
      { 'Sec-WebSocket-Key': null },
      { 'Sec-WebSocket-Key': '' },
      { 'Sec-WebSocket-Key': 'c2hvcnQ=' },
      { 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZTEyMzQ1Ng==' },
      { 'Sec-WebSocket-Key': KEY.slice(0, -2) },
      { 'Sec-WebSocket-Key': '!!!!!!!!!!!!!!!!!!!!!!==' },
      { 'Sec-WebSocket-Key': [KEY, KEY] },
      { 'Sec-WebSocket-Key': `${KEY}, ${KEY}` },
      { 'Sec-WebSocket-Version': ['13', '13'] },
      { 'Sec-WebSocket-Version': ['13', '8'] },
      { Host: null },
    ])
      assert.equal((await shake(t, server, 'HTTP/1.1', path, fields)).status, 400, JSON.stringify(fields));
});

test('HTTP/1.1: another method than GET gets 405', async (t) => {
  const server = await startServer(t);
  for (const method of ['POST', 'DELETE', 'PUT']) {
    const raw = await rawConnect(t, server);
    raw.send(upgradeRequest(server, '/ws?channel=a').replace('GET', method).replace('\r\n\r\n', '\r\nContent-Length: 0\r\n\r\n'));
    assert.equal((await raw.answer()).status, 405, method);
  }
});

test('HTTP/2: GET of a WebSocket path gets 426, CONNECT of another 400', async (t) => {
  const server = await startServer(t);
  const h2 = await openHttp2(t, server);
  const plain = await h2.request('/ws?channel=a');
  assert.deepEqual([plain.status, plain.headers['sec-websocket-version'], plain.headers.upgrade], [426, '13', undefined]);
  for (const path of ['/health', '/events?channel=a', '/']) assert.equal((await h2.connectWs(path).head).status, 400, path);
  assert.equal((await h2.connectWs('/ws?channel=a', { protocol: 'connect-udp' }).head).status, 501);
});
