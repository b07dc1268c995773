// The TLS port itself: who gets in, with what, how slowly, and what a reload changes.

import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'node:test';
import tls from 'node:tls';
import { makeCertificates } from './lib/certs.js';
import { folderFor, freePort } from './lib/process.js';
import { Raw } from './lib/raw.js';
import { BIN, run, Server, spawnCrier } from './lib/server.js';
import { get, publish } from './lib/http.js';
import { atEnd, guard, until } from './lib/wait.js';

// A server with both ports; the helpers of lib talk to the one in clear.
async function serveTls(t, flags = [], certs = makeCertificates(t)) {
  const tlsPort = await freePort();
  const proc = spawnCrier(['serve', '--host', '127.0.0.1', '--port', '0', '--drain', '2s', '--log-level', 'debug', '--tls-port', String(tlsPort),
    '--tls-cert', certs.cert, '--tls-key', certs.key, ...flags], {}, BIN);
  const server = new Server(proc);
  atEnd(t, () => server.stop());
  await server.listening();
  return Object.assign(server, { tlsPort, certs });
}

function connect(t, server, options = {}) {
  const socket = tls.connect({ host: '127.0.0.1', port: server.tlsPort, ca: readFileSync(server.certs.ca), servername: 'localhost', ...options });
  const raw = new Raw(socket);
  atEnd(t, () => raw.close());
  return guard(new Promise((resolve, reject) => socket.once('secureConnect', () => resolve(raw)).once('error', reject)), 'the TLS handshake');
}

const ask = (path) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
const health = async (raw) => (await raw.send(ask('/health')).answer()).status;

async function metric(server, labels) {
  const line = (await get(server, '/metrics')).text.split('\n').find((l) => l.includes(labels) && !l.startsWith('#'));
  return Number(line.split(' ').pop());
}

test('TLS 1.3 and 1.2, http/1.1 by ALPN; nothing older', async (t) => {
  const server = await serveTls(t);
  const newest = await connect(t, server, { ALPNProtocols: ['http/1.1'] });
  assert.equal(newest.socket.getProtocol(), 'TLSv1.3');
  assert.equal(newest.socket.alpnProtocol, 'http/1.1');
  assert.equal(await health(newest), 200);
  const older = await connect(t, server, { maxVersion: 'TLSv1.2' });
  assert.equal(older.socket.getProtocol(), 'TLSv1.2');
  assert.equal(await health(older), 200);
  const oldest = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' };
  await assert.rejects(connect(t, server, oldest), /alert protocol version|unsupported protocol/);
  assert.equal(await metric(server, 'crier_tls_handshake_failures_total{reason="version"}'), 1);
  assert.equal(await metric(server, 'protocol="TLSv1.3",cipher="TLS_AES_256_GCM_SHA384"'), 1);
  assert.equal(await metric(server, 'protocol="TLSv1.2",cipher="ECDHE-ECDSA-'), 0);
});

test('a protocol that nobody speaks here is refused', async (t) => {
  const server = await serveTls(t);
  await assert.rejects(connect(t, server, { ALPNProtocols: ['spdy/3'] }), /no application protocol/);
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

test('a handshake that is not done in time is dropped', async (t) => {
  const server = await serveTls(t, ['--request-timeout', '300ms']);
  for (const part of ['', '\x16', '\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03']) {
    const raw = await Raw.connect(server.tlsPort);
    atEnd(t, () => raw.close());
    if (part) raw.send(part);
    await raw.all();
  }
  assert.equal(await metric(server, 'crier_tls_handshake_failures_total{reason="timeout"}'), 3);
  const late = await connect(t, server); // a handshake, and then no head
  await late.all();
});

test('handshakes beyond the limit wait for their turn', async (t) => {
  const server = await serveTls(t, ['--workers', '1', '--request-timeout', '3s']);
  const slow = [];
  for (let i = 0; i < 512; i++) slow.push(await Raw.connect(server.tlsPort));
  atEnd(t, () => slow.forEach((raw) => raw.close()));
  for (const raw of slow) raw.send('\x16\x03\x01\x01\x00\x01');
  const next = connect(t, server); // begins when those are given up, or sooner
  slow.slice(0, 10).forEach((raw) => raw.close());
  assert.equal(await health(await next), 200);
});

test('the certificate is the one for the name that is asked for', async (t) => {
  const one = makeCertificates(t, { names: 'DNS:one.test,DNS:*.wild.test' });
  const two = makeCertificates(t, { names: 'DNS:two.test' });
  const server = await serveTls(t, ['--tls-cert', `${one.cert},${two.cert}`, '--tls-key', `${one.key},${two.key}`], one);
  const named = async (servername) => (await connect(t, server, { servername, rejectUnauthorized: false })).socket.getPeerCertificate().subjectaltname;
  assert.match(await named('one.test'), /one\.test/);
  assert.match(await named('two.test'), /two\.test/);
  assert.match(await named('a.wild.test'), /one\.test/);
  assert.match(await named('nobody.test'), /one\.test/);
  assert.match(await named(''), /one\.test/);
});

test('a client certificate: optional or required, and in the log', async (t) => {
  const certs = makeCertificates(t);
  const mine = { cert: readFileSync(certs.clientCert), key: readFileSync(certs.clientKey) };
  const optional = await serveTls(t, ['--tls-client-ca', certs.ca, '--tls-client-auth', 'optional'], certs);
  assert.equal(await health(await connect(t, optional)), 200);
  assert.equal(await health(await connect(t, optional, mine)), 200);
  assert.deepEqual(optional.events('tls_connection').map((e) => e.client), ['', 'CN=client']);
  const required = await serveTls(t, ['--tls-client-ca', certs.ca, '--tls-client-auth', 'required'], certs);
  assert.equal(await health(await connect(t, required, mine)), 200);
  const without = await connect(t, required); // in TLS 1.3 the refusal comes after our side is done
  await without.all();
  assert.equal(await metric(required, 'reason="client_certificate"'), 1);
});

test('SIGHUP: new certificates for who comes, nothing for who is there; a bad file changes nothing', async (t) => {
  const [old, fresh] = [makeCertificates(t), makeCertificates(t)];
  const dir = folderFor(t);
  const certs = { ...old, cert: join(dir, 'cert.pem'), key: join(dir, 'key.pem') };
  const install = (from) => {
    copyFileSync(from.cert, certs.cert);
    copyFileSync(from.key, certs.key);
  };
  install(old);
  const server = await serveTls(t, ['--workers', '2'], certs);
  const stream = await connect(t, server);
  stream.send(ask('/events?channel=a'));
  await stream.through('crier.ready');
  install(fresh);
  server.proc.kill('SIGHUP');
  await until(() => server.events('tls_reloaded').length === 1, 'the certificates are read');
  const withFresh = () => connect(t, server, { ca: readFileSync(fresh.ca) });
  for (let i = 0; i < 8; i++) assert.equal(await health(await withFresh()), 200);
  writeFileSync(certs.cert, 'no certificate');
  server.proc.kill('SIGHUP');
  const [failed] = await until(() => server.events('tls_reload_failed')[0] && server.events('tls_reload_failed'), 'the failure is said');
  assert.match(failed.reason, /cert\.pem/);
  assert.equal(await health(await withFresh()), 200);
  await publish(server, 'a', 'still here');
  await stream.through('data: still here');
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
  await refused(['--tls-cert', certs.key, '--tls-key', certs.key], /certificate .*server\.key/);
  await refused(['--tls-cert', certs.cert, '--tls-key', `${certs.key},${certs.key}`], /more keys than certificates/);
  await refused(['--tls-cert', certs.cert, '--tls-key', certs.key, '--tls-client-auth', 'maybe'], /none, optional or required/);
  await refused(['--tls-cert', certs.cert, '--tls-key', certs.key, '--tls-client-auth', 'required'], /without tls-client-ca/);
  await refused(['--tls-cert', certs.cert, '--tls-key', certs.key, '--tls-client-auth', 'required', '--tls-client-ca', '/nowhere.pem'], /\/nowhere\.pem/);
});

test('a client that half-closes after its request gets the answer', async (t) => {
  const server = await serveTls(t);
  const raw = await connect(t, server, { allowHalfOpen: true });
  raw.socket.end(ask('/health'));
  assert.match(await raw.all(), / 200 /);
});

test('connections are counted once', async (t) => {
  const server = await serveTls(t);
  const count = () => metric(server, 'crier_connections ');
  const before = await count();
  const stream = await connect(t, server);
  await stream.send(ask('/events?channel=a')).through('crier.ready');
  const kept = await connect(t, server);
  assert.equal(await health(kept), 200);
  assert.equal(await count(), before + 2);
  stream.close();
  kept.close();
  await until(async () => (await count()) === before, 'both are counted out');
});
