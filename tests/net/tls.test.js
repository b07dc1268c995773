// The TLS port itself: who gets in, with what, and what a reload changes.

import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import { makeCertificates } from './lib/certs.js';
import { openHttp2 } from './lib/http2.js';
import { publish, publishMany } from './lib/http.js';
import { folderFor, freePort } from './lib/process.js';
import { Raw } from './lib/raw.js';
import { run } from './lib/server.js';
import { ask, connectTls, health, logged, metric, serveTls } from './lib/tls.js';
import { atEnd, until } from './lib/wait.js';
import { WsClient } from './lib/wsclient.js';

test('TLS 1.3 and 1.2, http/1.1 by ALPN; nothing older', async (t) => {
  const server = await serveTls(t);
  const newest = await connectTls(t, server, { ALPNProtocols: ['http/1.1'] });
  assert.equal(newest.socket.getProtocol(), 'TLSv1.3');
  assert.equal(newest.socket.alpnProtocol, 'http/1.1');
  assert.equal(await health(newest), 200);
  const older = await connectTls(t, server, { maxVersion: 'TLSv1.2' });
  assert.equal(older.socket.getProtocol(), 'TLSv1.2');
  assert.equal(await health(older), 200);
  const oldest = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' };
  await assert.rejects(connectTls(t, server, oldest), /alert protocol version|unsupported protocol/);
  assert.equal(await metric(server, 'crier_tls_handshake_failures_total{reason="version"}'), 1);
  assert.equal(await metric(server, 'protocol="TLSv1.3",cipher="TLS_AES_256_GCM_SHA384"'), 1);
  assert.equal(await metric(server, 'protocol="TLSv1.2",cipher="ECDHE-ECDSA-'), 0);
});

test('ciphers without forward secrecy or authenticated encryption, and keys without either, are refused', async (t) => {
  const server = await serveTls(t);
  const offers = ['AES256-GCM-SHA384', 'ECDHE-ECDSA-AES256-SHA384', 'ECDHE-ECDSA-AES128-SHA', 'DHE-RSA-AES256-GCM-SHA384', 'aNULL@SECLEVEL=0'];
  for (const ciphers of offers) await assert.rejects(connectTls(t, server, { maxVersion: 'TLSv1.2', ciphers }), /handshake failure/, ciphers);
  await assert.rejects(connectTls(t, server, { maxVersion: 'TLSv1.2', ecdhCurve: 'secp521r1' }), /handshake failure/);
  assert.equal(await metric(server, 'crier_tls_handshake_failures_total{reason="negotiation"}'), offers.length + 1);
  for (const ciphers of ['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-CHACHA20-POLY1305']) {
    assert.equal(await health(await connectTls(t, server, { maxVersion: 'TLSv1.2', ciphers })), 200);
    assert.equal(await metric(server, `protocol="TLSv1.2",cipher="${ciphers}"`), 1);
  }
  assert.deepEqual((await logged(server, 'tls_connection', 2)).map((e) => [e.protocol, e.cipher]),
    [['TLSv1.2', 'ECDHE-ECDSA-AES128-GCM-SHA256'], ['TLSv1.2', 'ECDHE-ECDSA-CHACHA20-POLY1305']]);
});

test('with --tls-kernel the kernel encrypts where it can', async (t) => {
  const server = await serveTls(t, ['--tls-kernel']);
  for (const maxVersion of ['TLSv1.3', 'TLSv1.2']) {
    const stream = await connectTls(t, server, { maxVersion });
    await stream.send(ask('/events?channel=a')).through('crier.ready');
    stream.socket.pause(); // more than the kernel takes at once
    const ids = await publishMany(server, 'a', Array.from({ length: 15 }, (_, i) => `${i}.`.padEnd(60000, `${i % 10}`)));
    stream.socket.resume();
    const received = await stream.through(`id: ${ids.at(-1)}\n`);
    for (let i = 0; i < 14; i++) assert.ok(received.includes(`data: ${`${i}.`.padEnd(60000, `${i % 10}`)}\n`), `message ${i} arrived whole`);
  }
  // Asked for afterwards: the kernel loads it on demand.
  const can = readFileSync('/proc/sys/net/ipv4/tcp_available_ulp', 'utf8').split(/\s/).includes('tls');
  assert.deepEqual((await logged(server, 'tls_connection', 2)).map((e) => e.kernel), can ? ['yes', 'yes'] : ['no', 'no']);
});

test('a protocol that nobody speaks here is refused', async (t) => {
  const server = await serveTls(t);
  await assert.rejects(connectTls(t, server, { ALPNProtocols: ['spdy/3'] }), /no application protocol/);
  assert.equal(await metric(server, 'crier_tls_handshake_failures_total{reason="negotiation"}'), 1);
});

test('plain HTTP on the TLS port is told what is expected', async (t) => {
  const server = await serveTls(t);
  const raw = await Raw.connect(server.tlsPort);
  atEnd(t, () => raw.close());
  const answer = await raw.send(ask('/health')).answer();
  assert.equal(answer.status, 400);
  assert.match(answer.json().detail, /https/);
  await raw.all();
  assert.equal(await metric(server, 'crier_tls_handshake_failures_total{reason="not_tls"}'), 1);
});

test('noise on the TLS port is closed', async (t) => {
  const server = await serveTls(t);
  for (const noise of ['\0\0\0\0', '\x80\x2e\x01\x03\x01', '\x16\x03\x01\x00\x05hello']) {
    const raw = await Raw.connect(server.tlsPort);
    atEnd(t, () => raw.close());
    assert.doesNotMatch(await raw.send(noise).all(), /HTTP/);
  }
});

test('the certificate is the one for the name that is asked for', async (t) => {
  const one = makeCertificates(t, { names: 'DNS:one.test,DNS:*.wild.test' });
  const two = makeCertificates(t, { names: 'DNS:two.test' });
  const server = await serveTls(t, ['--tls-cert', `${one.cert},${two.cert}`, '--tls-key', `${one.key},${two.key}`], one);
  const named = async (servername) => (await connectTls(t, server, { servername, rejectUnauthorized: false })).socket.getPeerCertificate().subjectaltname;
  assert.match(await named('one.test'), /one\.test/);
  assert.match(await named('two.test'), /two\.test/);
  assert.match(await named('a.wild.test'), /one\.test/);
  assert.match(await named('nobody.test'), /one\.test/);
  assert.match(await named(''), /one\.test/);
});

// Files in one place, so that others can be put there.
function installed(t, from) {
  const dir = folderFor(t);
  const certs = { ...from, cert: join(dir, 'cert.pem'), key: join(dir, 'key.pem') };
  const install = (other) => {
    copyFileSync(other.cert, certs.cert);
    copyFileSync(other.key, certs.key);
  };
  install(from);
  return { certs, install };
}

async function reload(server, event = 'tls_reloaded') {
  const before = server.events(event).length;
  server.proc.kill('SIGHUP');
  return until(() => server.events(event)[before], `the server says ${event}`);
}

test('SIGHUP: new certificates for who comes, nothing for who is there', async (t) => {
  const [old, fresh] = [makeCertificates(t), makeCertificates(t)];
  const { certs, install } = installed(t, old);
  const server = await serveTls(t, ['--workers', '2'], certs);
  const ca = readFileSync(old.ca);
  const stream = await connectTls(t, server);
  await stream.send(ask('/events?channel=a')).through('crier.ready');
  const ws = await new WsClient(`wss://127.0.0.1:${server.tlsPort}/ws?channel=a`, { ca }).opened();
  atEnd(t, () => ws.socket.terminate());
  await ws.next('ready');
  const h2 = await openHttp2(t, { host: `localhost:${server.tlsPort}`, origin: `https://localhost:${server.tlsPort}` }, { ca, lookup: (name, o, done) => done(null, o.all ? [{ address: '127.0.0.1', family: 4 }] : '127.0.0.1', 4) });
  const events = await h2.events({ channel: 'a' });
  await events.ready();
  const { cursor } = (await h2.request('/poll?channel=b')).json();
  const poll = h2.request(`/poll?channel=b&since=${cursor}&timeout=55`);
  await server.connected({ sse: 2, ws: 1, poll: 1 });
  install(fresh);
  await reload(server);
  const withFresh = () => connectTls(t, server, { ca: readFileSync(fresh.ca) });
  for (let i = 0; i < 8; i++) assert.equal(await health(await withFresh()), 200);
  assert.equal((await h2.request('/health')).status, 200, 'the connection takes requests');
  await publish(server, 'a', 'still here');
  await publish(server, 'b', 'and here');
  await stream.through('data: still here');
  assert.equal((await ws.next('the message')).data, 'still here');
  assert.equal((await events.events.next('the message')).data, 'still here');
  assert.equal((await poll).json().messages[0].data, 'and here');
  assert.equal(await metric(server, 'crier_tls_reloads_total{outcome="done"}'), 1);
});

test('SIGHUP with files that are no good changes nothing', async (t) => {
  const good = makeCertificates(t);
  const { certs, install } = installed(t, good);
  const server = await serveTls(t, [], certs);
  const expired = good.make('expired', 'subjectAltName=IP:127.0.0.1\n', { expired: true });
  const bad = [
    [() => writeFileSync(certs.cert, 'no certificate'), /certificate .*cert\.pem/],
    [() => install({ cert: good.cert, key: good.clientKey }), /key .*key\.pem: .*mismatch/],
    [() => install(expired), /certificate .*cert\.pem: expired on/],
    [() => rmSync(certs.key), /key .*key\.pem: No such file/],
  ];
  for (const [spoil, reason] of bad) {
    install(good);
    spoil();
    assert.match((await reload(server, 'tls_reload_failed')).reason, reason);
    assert.equal(await health(await connectTls(t, server)), 200);
  }
  assert.equal(await metric(server, 'crier_tls_reloads_total{outcome="failed"}'), bad.length);
  install(good);
  await reload(server);
});

test('files that are no good: 2, and what was expected', async (t) => {
  const certs = makeCertificates(t);
  const refused = async (flags, expected) => {
    const { code, stderr } = await run(['serve', '--port', '0', '--tls-port', String(await freePort()), ...flags]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, expected);
    assert.equal(stderr.trim().split('\n').length, 1);
  };
  await refused([], /without tls-cert; expected --tls-cert FILE/);
  await refused(['--tls-cert', certs.cert], /without tls-key/);
  await refused(['--tls-cert', '/nowhere.pem', '--tls-key', certs.key], /\/nowhere\.pem: No such file/);
  await refused(['--tls-cert', certs.cert, '--tls-key', certs.clientKey], /key .*client\.key: .*mismatch/);
  const expired = certs.make('expired', 'subjectAltName=IP:127.0.0.1\n', { expired: true });
  await refused(['--tls-cert', expired.cert, '--tls-key', expired.key], /certificate .*expired\.pem: expired on 20\d\d-/);
  await refused(['--tls-cert', `${certs.cert},${expired.cert}`, '--tls-key', `${certs.key},${expired.key}`], /certificate .*expired\.pem: expired on/);
  await refused(['--tls-cert', certs.cert, '--tls-key', '/nowhere.key'], /key \/nowhere\.key: No such file/);
  await refused(['--tls-cert', join(certs.cert, '..'), '--tls-key', certs.key], /certificate .*\//);
  await refused(['--tls-cert', certs.key, '--tls-key', certs.key], /certificate .*server\.key/);
  await refused(['--tls-cert', certs.cert, '--tls-key', `${certs.key},${certs.key}`], /more keys than certificates/);
  await refused(['--tls-cert', certs.cert, '--tls-key', certs.key, '--tls-client-auth', 'maybe'], /none, optional or required/);
  await refused(['--tls-cert', certs.cert, '--tls-key', certs.key, '--tls-client-auth', 'required'], /without tls-client-ca/);
  await refused(['--tls-cert', certs.cert, '--tls-key', certs.key, '--tls-client-auth', 'required', '--tls-client-ca', '/nowhere.pem'], /\/nowhere\.pem/);
});

test('a client that half-closes after its request gets the answer', async (t) => {
  const server = await serveTls(t);
  const raw = await connectTls(t, server, { allowHalfOpen: true });
  raw.socket.end(ask('/health'));
  assert.match(await raw.all(), / 200 /);
});

test('connections are counted once', async (t) => {
  const server = await serveTls(t);
  const count = () => metric(server, 'crier_connections ');
  const before = await count();
  const stream = await connectTls(t, server);
  await stream.send(ask('/events?channel=a')).through('crier.ready');
  const kept = await connectTls(t, server);
  assert.equal(await health(kept), 200);
  assert.equal(await count(), before + 2);
  stream.close();
  kept.close();
  await until(async () => (await count()) === before, 'both are counted out');
});
