// Handshakes that are slow, stuck, or too many at once.

import assert from 'node:assert/strict';
import net from 'node:net';
import test from 'node:test';
import { get, publish } from './lib/http.js';
import { Raw } from './lib/raw.js';
import { openSse } from './lib/sse.js';
import { ask, connectTls, health, metric, serveTls } from './lib/tls.js';
import { atEnd, until } from './lib/wait.js';

const AT_ONCE = 512; // FRONT_HANDSHAKES_MAX
const BEGINNING = '\x16\x03\x01\x01\x00\x01'; // of a record with a ClientHello

const running = (server) => metric(server, 'crier_tls_handshakes{state="running"}');
const waiting = (server) => metric(server, 'crier_tls_handshakes{state="waiting"}');
const timeouts = (server) => metric(server, 'crier_tls_handshake_failures_total{reason="timeout"}');

async function stuckHandshakes(t, server, n) {
  const all = await Promise.all(Array.from({ length: n }, () => Raw.connect(server.tlsPort)));
  atEnd(t, () => all.forEach((raw) => raw.close()));
  return all.map((raw) => raw.send(BEGINNING));
}

test('a handshake that is not done in time is dropped, however far it has come', async (t) => {
  const server = await serveTls(t, ['--request-timeout', '300ms']);
  for (const part of ['', '\x16', `${BEGINNING}\x00\x00\xfc\x03\x03`]) {
    const raw = await Raw.connect(server.tlsPort);
    atEnd(t, () => raw.close());
    if (part) raw.send(part);
    await raw.all();
  }
  assert.equal(await timeouts(server), 3);
  assert.equal(await running(server), 0);
  const late = await connectTls(t, server); // a handshake, and then no head
  await late.all();
  assert.equal(await timeouts(server), 3);
});

test('the deadline counts from the beginning: a byte now and then does not put it off', async (t) => {
  const server = await serveTls(t, ['--request-timeout', '500ms']);
  const raw = await Raw.connect(server.tlsPort);
  atEnd(t, () => raw.close());
  raw.send(BEGINNING);
  const dripping = setInterval(() => raw.socket.writable && raw.send('\0'), 20);
  atEnd(t, () => clearInterval(dripping));
  await raw.all();
  assert.equal(await timeouts(server), 1);
});

// Passes bytes on one by one, both ways.
async function dripper(t, port) {
  const drip = async (from, to) => {
    for await (const chunk of from) for (const byte of chunk) await new Promise((done) => to.write(Buffer.from([byte]), done));
    to.end();
  };
  const proxy = net.createServer({ noDelay: true, allowHalfOpen: true }, (client) => {
    const server = net.connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
    for (const socket of [client, server]) socket.on('error', () => {});
    drip(client, server).catch(() => {});
    drip(server, client).catch(() => {});
    atEnd(t, () => [client, server].forEach((socket) => socket.destroy()));
  });
  await new Promise((done) => proxy.listen(0, '127.0.0.1', done));
  atEnd(t, () => proxy.close());
  return proxy.address().port;
}

for (const maxVersion of ['TLSv1.3', 'TLSv1.2'])
  test(`${maxVersion}: a handshake and a request that come byte by byte`, async (t) => {
    const server = await serveTls(t);
    const slow = await connectTls(t, { certs: server.certs, tlsPort: await dripper(t, server.tlsPort) }, { maxVersion });
    assert.equal(await health(slow), 200);
    await slow.send(ask('/events?channel=a')).through('crier.ready');
    await publish(server, 'a', 'byte by byte');
    await slow.through('data: byte by byte');
  });

test('512 stuck handshakes: who is there and the plain port notice nothing, who comes gets in', async (t) => {
  const server = await serveTls(t, ['--workers', '1', '--request-timeout', '1m']);
  const secure = await connectTls(t, server);
  await secure.send(ask('/events?channel=a')).through('crier.ready');
  const clear = await openSse(t, server, { channel: 'a' });
  await clear.ready();
  const stuck = await stuckHandshakes(t, server, AT_ONCE);
  await until(async () => (await running(server)) === AT_ONCE, 'all places are taken');
  await publish(server, 'a', 'meanwhile');
  await secure.through('data: meanwhile');
  assert.equal((await clear.events.next()).data, 'meanwhile');
  assert.equal((await get(server, '/health')).status, 200);
  assert.equal(await timeouts(server), 0, 'nobody is hurried while nobody waits');
  const late = await Promise.all([connectTls(t, server), connectTls(t, server), connectTls(t, server)]);
  for (const raw of late) assert.equal(await health(raw), 200);
  await until(async () => (await running(server)) === AT_ONCE - 3, 'one made room for each');
  assert.equal(await waiting(server), 0);
  assert.equal(await timeouts(server), 3);
  await Promise.race(stuck.map((raw) => raw.ended));
  assert.equal((await get(server, '/health')).status, 200);
});

test('as many as are stuck wait before a good one: it gets in long before their deadline', async (t) => {
  const server = await serveTls(t, ['--workers', '1', '--request-timeout', '1m']);
  await stuckHandshakes(t, server, 2 * AT_ONCE);
  await until(async () => (await running(server)) === AT_ONCE, 'all places are taken');
  assert.equal(await health(await connectTls(t, server)), 200);
});

test('the deadline frees all places, and everyone is counted', async (t) => {
  const server = await serveTls(t, ['--workers', '1', '--request-timeout', '3s']);
  const stuck = await stuckHandshakes(t, server, 2 * AT_ONCE);
  for (const raw of stuck) await raw.all();
  assert.equal(await timeouts(server), 2 * AT_ONCE);
  assert.equal((await running(server)) + (await waiting(server)), 0);
  assert.equal(await health(await connectTls(t, server)), 200);
});

test('a place that becomes free is given to who waits', async (t) => {
  const server = await serveTls(t, ['--workers', '1', '--request-timeout', '1m']);
  const stuck = await stuckHandshakes(t, server, AT_ONCE);
  await until(async () => (await running(server)) === AT_ONCE, 'all places are taken');
  stuck.forEach((raw) => raw.close());
  const late = await connectTls(t, server);
  await until(async () => (await running(server)) === 0, 'they have left');
  assert.equal(await timeouts(server), 0);
  assert.equal(await health(late), 200);
});
