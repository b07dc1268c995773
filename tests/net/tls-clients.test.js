// Who comes again by a ticket, and who shows a certificate.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { makeCertificates } from './lib/certs.js';
import { ask, connectTls, health, logged, metric, serveTls } from './lib/tls.js';
import { until } from './lib/wait.js';

const files = ({ cert, key }) => ({ cert: readFileSync(cert), key: readFileSync(key) });

// --- tickets ---

// Greets, asks, leaves; the ticket that came with the answer or before it.
async function ticketFrom(t, server, options) {
  const raw = await connectTls(t, server, options);
  assert.equal(raw.socket.isSessionReused(), false);
  assert.equal(await health(raw), 200);
  const ticket = raw.socket.getSession();
  raw.close();
  return ticket;
}

for (const maxVersion of ['TLSv1.3', 'TLSv1.2']) {
  test(`${maxVersion}: a session is resumed by its ticket, with any worker, under any name's certificate`, async (t) => {
    const certs = makeCertificates(t);
    const other = makeCertificates(t, { names: 'DNS:other.test' });
    const server = await serveTls(t, ['--workers', '2', '--tls-cert', `${certs.cert},${other.cert}`, '--tls-key', `${certs.key},${other.key}`], certs);
    for (const options of [{ maxVersion }, { maxVersion, servername: 'other.test', rejectUnauthorized: false }]) {
      const session = await ticketFrom(t, server, options);
      for (let i = 0; i < 4; i++) {
        const again = await connectTls(t, server, { ...options, session });
        assert.equal(again.socket.isSessionReused(), true);
        await again.send(ask('/events?channel=a')).through('crier.ready');
      }
    }
    assert.deepEqual((await logged(server, 'tls_connection', 10)).map((e) => e.resumed), ['no', 'yes', 'yes', 'yes', 'yes', 'no', 'yes', 'yes', 'yes', 'yes']);
  });

  test(`${maxVersion}: a ticket from before a reload is not good any more, its client gets in all the same`, async (t) => {
    const server = await serveTls(t);
    const session = await ticketFrom(t, server, { maxVersion });
    server.proc.kill('SIGHUP');
    await until(() => server.events('tls_reloaded').length, 'the certificates are read again');
    const again = await until(async () => {
      const raw = await connectTls(t, server, { maxVersion, session });
      return raw.socket.isSessionReused() ? raw.close() : raw; // the worker hears of it a moment later
    }, 'a full handshake');
    assert.equal(await health(again), 200);
  });

  test(`${maxVersion}: a resumed client is still the one whose certificate was shown`, async (t) => {
    const certs = makeCertificates(t);
    const server = await serveTls(t, ['--tls-client-ca', certs.ca, '--tls-client-auth', 'required'], certs);
    const session = await ticketFrom(t, server, { maxVersion, ...files({ cert: certs.clientCert, key: certs.clientKey }) });
    const again = await connectTls(t, server, { maxVersion, session });
    assert.equal(again.socket.isSessionReused(), true);
    assert.equal(await health(again), 200);
    assert.deepEqual((await logged(server, 'tls_connection', 2)).map((e) => [e.resumed, e.client]), [['no', 'CN=client'], ['yes', 'CN=client']]);
    assert.equal(await metric(server, 'crier_tls_client_certificates_total'), 2);
  });
}

test('a ticket of another server is ignored', async (t) => {
  const certs = makeCertificates(t);
  const [server, other] = [await serveTls(t, [], certs), await serveTls(t, [], certs)];
  const session = await ticketFrom(t, server, {});
  const there = await connectTls(t, other, { session });
  assert.equal(there.socket.isSessionReused(), false);
  assert.equal(await health(there), 200);
});

// --- certificates of clients ---

const CLIENT = 'extendedKeyUsage=clientAuth\n';

// What each of them shows; what is said of those that are turned away.
function visitors(certs) {
  return {
    nobody: {},
    good: files({ cert: certs.clientCert, key: certs.clientKey }),
    expired: files(certs.make('late', CLIENT, { expired: true })),
    foreign: files(certs.make('foreigner', CLIENT, { by: 'stranger' })),
    server: files(certs.make('machine', 'extendedKeyUsage=serverAuth\n')),
  };
}
const REASON = { nobody: /peer did not return a certificate/, expired: /certificate has expired/, foreign: /unable to get local issuer certificate/, server: /unsuitable certificate purpose|unsupported certificate purpose/ };

// 200, or how the connection ended. (In TLS 1.3 the refusal comes after the client's side is done.)
async function visit(t, server, options) {
  try {
    const raw = await connectTls(t, server, options);
    return await health(raw);
  } catch {
    return 'refused';
  }
}

for (const maxVersion of ['TLSv1.3', 'TLSv1.2'])
  for (const [auth, allowed] of Object.entries({ none: ['nobody', 'good', 'expired', 'foreign', 'server'], optional: ['nobody', 'good'], required: ['good'] }))
    test(`${maxVersion}, client certificates ${auth}: who gets in`, async (t) => {
      const certs = makeCertificates(t);
      const server = await serveTls(t, auth === 'none' ? [] : ['--tls-client-ca', certs.ca, '--tls-client-auth', auth], certs);
      const refused = [];
      for (const [who, shown] of Object.entries(visitors(certs))) {
        const outcome = await visit(t, server, { maxVersion, ...shown });
        assert.equal(outcome, allowed.includes(who) ? 200 : 'refused', who);
        if (outcome !== 200) refused.push(who);
      }
      const failures = await logged(server, 'tls_handshake_failed', refused.length);
      refused.forEach((who, i) => assert.match(failures[i].reason, REASON[who]));
      assert.equal(await metric(server, 'reason="client_certificate"'), refused.length);
      const good = auth === 'none' ? [] : ['CN=client'];
      assert.deepEqual((await logged(server, 'tls_connection', allowed.length)).map((e) => e.client).filter(Boolean), good);
      assert.equal(await metric(server, 'crier_tls_client_certificates_total'), good.length);
    });
