// HTTP/2 in a real Chromium: everything that its pages have open shares one connection, WebSockets
// too (RFC 8441), and all of it comes back.

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { after, before } from 'node:test';
import { launch, openPage, waitIn, watchNetwork } from './lib/browser.js';
import { localCertificate } from './lib/certs.js';
import { allLive, AWAY } from './lib/demo.js';
import { get, numbered, publishMany } from './lib/http.js';
import { startInstance, untilReady } from './lib/instances.js';
import { freePort } from './lib/process.js';
import { startRedis } from './lib/redis.js';
import { startRelay } from './lib/relay.js';
import { startServer } from './lib/server.js';
import { atEnd, guard, until } from './lib/wait.js';

let folder;
let certificate;
let browser;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'crier-test-'));
  certificate = localCertificate(folder);
  browser = await launch({ certificate: certificate.cert });
});
after(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

// The helpers of lib go to the port in clear, the browser to the other one.
const flagsFor = (tlsPort) => ['--tls-port', String(tlsPort), '--tls-cert', certificate.cert, '--tls-key', certificate.key, '--sse-retry', '200ms', '--history', '2000'];
const secureOrigin = (port) => `https://localhost:${port}`;

async function serve(t, flags = []) {
  const tlsPort = await freePort();
  const server = await startServer(t, [...flagsFor(tlsPort), ...flags], { tls: null });
  return Object.assign(server, { secure: secureOrigin(tlsPort), tlsPort });
}

// In the page: listeners to channel a, each with the ids it was given, gaps among them. EventSources
// come back by themselves. A WebSocket does so from the last id; a browser puts it on an HTTP/2
// connection that it has, so a request is made first.
function listen({ sources, sockets }) {
  window.got ??= [];
  window.readies ??= 0;
  const list = () => window.got[window.got.push([]) - 1];
  for (let i = 0; i < sources; i++) {
    const ids = list();
    const source = new EventSource('/events?channel=a');
    source.onmessage = (e) => ids.push(e.lastEventId);
    source.addEventListener('crier.ready', () => window.readies++);
    source.addEventListener('crier.gap', (e) => ids.push(`gap ${JSON.parse(e.data).reason}`));
  }
  const connect = (ids, since) => {
    const own = new WebSocket(`wss://${location.host}/ws?channel=a&since=${encodeURIComponent(since)}`);
    own.onmessage = (e) => {
      const m = JSON.parse(e.data);
      if (m.op === 'ready') window.readies++;
      if (m.op === 'gap') ids.push(`gap ${m.reason}`);
      if (m.op === 'message') ids.push(m.id);
      if (m.op === 'ready' || m.op === 'message') since = m.id ?? m.cursor;
    };
    const again = () => fetch('/health').then(() => connect(ids, since), () => setTimeout(again, 100));
    own.onclose = again;
  };
  for (let i = 0; i < sockets; i++) connect(list(), '');
}

async function openListeners(t, origin, counts, options) {
  const page = await openPage(t, browser, `${origin}/favicon.svg`, { allow: AWAY, ...options });
  page.network = await watchNetwork(page);
  page.listeners = counts.sources + counts.sockets;
  await page.evaluate(listen, counts);
  await ready(page, page.listeners);
  return page;
}

const ready = (page, n) => waitIn(page, (k) => window.readies >= k, n);
const haveAll = async (page, ids) => {
  await waitIn(page, (last) => window.got.every((one) => one.includes(last)), ids.at(-1));
  assert.deepEqual(await page.evaluate(() => window.got), Array(page.listeners).fill(ids));
};
const answersOf = (page, type) => page.network.filter((a) => a.type === type);

// As the server counts them. (A browser under load may dial twice, and then drops the second.)
async function oneConnection(server, streams) {
  let seen;
  await until(async () => {
    const { text } = await get(server, '/metrics');
    seen = ['connections', 'streams'].map((what) => Number(text.match(new RegExp(`^crier_http2_${what} (\\d+)$`, 'm'))[1]));
    return seen[0] === 1 && seen[1] === streams;
  }, () => `there is one HTTP/2 connection with ${streams} streams; there are ${seen}`);
}

test('forty EventSources, WebSockets and a publish of one page share one connection', async (t) => {
  const server = await serve(t, ['--workers', '2']);
  const page = await openListeners(t, server.secure, { sources: 40, sockets: 3 });
  const ids = await publishMany(server, 'a', numbered('from elsewhere ', 5));
  ids.push(await page.evaluate(async () => (await (await fetch('/publish?channel=a', { method: 'POST', body: 'from the page' })).json()).id));
  await haveAll(page, ids);
  await waitIn(page, () => performance.getEntriesByType('resource').some((e) => e.name.includes('/publish') && e.nextHopProtocol === 'h2'));
  const requests = [...answersOf(page, 'EventSource'), ...answersOf(page, 'Fetch')];
  assert.equal(requests.length, 41);
  assert.deepEqual([...new Set(requests.map((a) => `${a.status} ${a.protocol}`))], ['200 h2']);
  assert.equal(new Set(requests.map((a) => a.connection)).size, 1, 'one connection');
  assert.deepEqual(answersOf(page, 'WebSocket').map((a) => a.status), [200, 200, 200], 'by extended CONNECT');
  await oneConnection(server, 43);
  await server.connected({ sse: 40, ws: 3 });
});

test('so do a hundred streams of several tabs', async (t) => {
  const server = await serve(t);
  const first = await openListeners(t, server.secure, { sources: 25, sockets: 1 });
  const pages = [first];
  while (pages.length < 4) {
    const page = await first.context().newPage();
    await page.goto(`${server.secure}/favicon.svg`);
    page.listeners = 26;
    await page.evaluate(listen, { sources: 25, sockets: 1 });
    await ready(page, 26);
    pages.push(page);
  }
  const ids = await publishMany(server, 'a', numbered('m', 10));
  for (const page of pages) await haveAll(page, ids);
  await oneConnection(server, 104);
  await server.connected({ sse: 100, ws: 4 });
});

test('the demo and the chat are on HTTP/2 with their WebSockets, and say so', async (t) => {
  const server = await serve(t, ['--workers', '2']);
  for (const [path, joined] of [['/', allLive], ['/chat.html?room=tea', (page) => waitIn(page, () => document.getElementById('room-view').dataset.state === 'open')]]) {
    const page = await openPage(t, browser, 'about:blank');
    page.network = await watchNetwork(page);
    await page.goto(server.secure + path);
    await joined(page);
    await waitIn(page, () => document.getElementById('protocol').textContent === 'HTTP/2');
    assert.deepEqual(answersOf(page, 'WebSocket').map((a) => a.status), [200], path);
    if (path === '/') assert.match(await page.textContent('#shell'), /^curl -k -N 'https:/, 'the commands work with a certificate that nobody has signed');
    const requests = page.network.filter((a) => a.type !== 'WebSocket');
    assert.deepEqual([...new Set(requests.map((a) => a.protocol))], ['h2']);
    assert.equal(new Set(requests.map((a) => a.connection)).size, 1, 'one connection');
    await page.context().close();
  }
});

test('a connection that was cut: every stream goes on where it was, again on one connection', async (t) => {
  const server = await serve(t, ['--workers', '2']);
  const relay = await startRelay(t, { port: server.tlsPort });
  const page = await openListeners(t, secureOrigin(relay.port), { sources: 10, sockets: 3 });
  const ids = [];
  for (let cuts = 1; cuts <= 3; cuts++) {
    ids.push(...(await publishMany(server, 'a', numbered(`live ${cuts} `, 5))));
    await haveAll(page, ids);
    await oneConnection(server, 13);
    relay.cut();
    ids.push(...(await publishMany(server, 'a', numbered(`missed ${cuts} `, 5))));
    await ready(page, 13 * (cuts + 1));
  }
  await haveAll(page, ids);
  assert.deepEqual(answersOf(page, 'WebSocket').map((a) => a.status), Array(12).fill(200));
  const connections = answersOf(page, 'EventSource').map((a) => a.connection);
  assert.equal(new Set(connections).size, 4);
  await oneConnection(server, 13);
});

// Two instances over one Redis: what is published while the first is away is not lost to anyone.
async function pair(t, flags = []) {
  const redis = await startRedis(t);
  const ports = { port: await freePort(), tlsPort: await freePort() };
  const start = () => startInstance(t, redis, [...flagsFor(ports.tlsPort), ...flags], { port: ports.port, tls: null });
  const [server, other] = [await start(), await startInstance(t, redis, [], { tls: null })];
  await untilReady(server, other);
  return { server, other, restart: start, secure: secureOrigin(ports.tlsPort) };
}

test('a server that was killed and comes back: nothing is lost, nothing is repeated', async (t) => {
  const { server, other, restart, secure } = await pair(t);
  const page = await openListeners(t, secure, { sources: 10, sockets: 3 });
  const ids = await publishMany(other, 'a', numbered('before ', 5));
  await haveAll(page, ids);
  await server.crash();
  ids.push(...(await publishMany(other, 'a', numbered('meanwhile ', 5))));
  const again = await restart();
  await ready(page, 26);
  ids.push(...(await publishMany(other, 'a', numbered('after ', 5))));
  await haveAll(page, ids);
  assert.deepEqual(answersOf(page, 'WebSocket').map((a) => a.status), Array(6).fill(200));
  await oneConnection(again, 13);
});

// --- the end of a server, with the browser's own log ---

// [{type, params}] of everything that concerns HTTP/2 sessions.
function netLog(file) {
  const { constants, events } = JSON.parse(readFileSync(file, 'utf8'));
  const names = Object.fromEntries(Object.entries(constants.logEventTypes).map(([name, n]) => [n, name]));
  return events.map(({ type, params, source }) => ({ type: names[type], params: params ?? {}, session: source.id })).filter((e) => e.type?.startsWith('HTTP2_SESSION'));
}

test('a server that drains says GOAWAY; the streams come back at the next one', async (t) => {
  const file = join(folder, 'net-log.json');
  const own = await launch({ certificate: certificate.cert, args: [`--log-net-log=${file}`] });
  atEnd(t, () => own.close());
  const { server, other, restart, secure } = await pair(t, ['--drain', '5s']);
  const page = await openPage(t, own, `${secure}/favicon.svg`, { allow: AWAY });
  page.listeners = 13;
  await page.evaluate(listen, { sources: 10, sockets: 3 });
  await ready(page, 13);
  const ids = await publishMany(other, 'a', numbered('before ', 5));
  await haveAll(page, ids);
  server.proc.kill('SIGTERM');
  ids.push(...(await publishMany(other, 'a', numbered('meanwhile ', 5))));
  assert.deepEqual(await guard(server.exit, 'the end of the first'), { code: 0, signal: null });
  await restart();
  await ready(page, 26);
  ids.push(...(await publishMany(other, 'a', numbered('after ', 5))));
  await haveAll(page, ids);
  await page.context().close();
  await own.close();
  const log = netLog(file);
  const [first, ...later] = log.filter((e) => e.type === 'HTTP2_SESSION_INITIALIZED').map((e) => e.session);
  assert.ok(later.length >= 1, 'another connection to the second server');
  const goaways = log.filter((e) => e.type === 'HTTP2_SESSION_RECV_GOAWAY' && e.session === first);
  assert.equal(goaways.length, 2);
  for (const { params } of goaways) assert.match(String(params.error_code), /^0|NO_ERROR/);
  const connects = log.filter((e) => e.type === 'HTTP2_SESSION_SEND_HEADERS' && e.params.headers?.some((h) => h === ':protocol: websocket'));
  assert.equal(connects.filter((e) => e.session === first).length, 3);
  assert.ok(connects.length >= 6);
});
