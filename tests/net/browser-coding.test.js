// A real Chromium reads what is sent compressed, each message when it is sent: it offers the codings
// by itself.

import assert from 'node:assert/strict';
import test, { after } from 'node:test';
import { launch, openPage, waitIn } from './lib/browser.js';
import { makeCertificates } from './lib/certs.js';
import { publish } from './lib/http.js';
import { startServer } from './lib/server.js';
import { openSse } from './lib/sse.js';
import { until } from './lib/wait.js';

const OVER = {
  'HTTP/1.1': { secure: false, protocol: 'http/1.1' },
  'HTTP/1.1 over TLS': { secure: true, protocol: 'http/1.1', args: ['--disable-http2'] },
  'HTTP/2': { secure: true, protocol: 'h2' },
};
const AWAY = /net::ERR_|status of 404/; // the server ends under its clients; it has no favicon.ico
const JSON_2K = JSON.stringify(Array.from({ length: 40 }, (_, i) => ({ symbol: 'ABC', price: 100 + i, at: '2026-11-21T10:00:00Z' })));
const MESSAGES = [
  ['a', 'short'], ['b', JSON_2K], ['a', 'lines\nand\nmore of them'], ['b', 'ü€😀'.repeat(5000)], ['a', ''], ['a', JSON_2K],
  ['b', Buffer.from(Array.from({ length: 40000 }, (_, i) => Math.imul(i, i + 7) & 255)), 'application/octet-stream'], ['b', 'last'],
];

const browsers = new Map();
function browserWith(args = []) {
  const key = args.join(' ');
  if (!browsers.has(key)) browsers.set(key, launch({ args }));
  return browsers.get(key);
}
after(async () => {
  for (const browser of browsers.values()) await (await browser).close();
});

// A server, an empty page of it, and what Chromium's network layer says of it.
async function open(t, { secure, args }, flags) {
  const server = await startServer(t, ['--workers', '2', ...flags], { tls: secure ? makeCertificates(t) : null });
  const { origin } = server;
  server.talk(server.plainPort); // what the test itself asks goes there
  const page = await openPage(t, await browserWith(args), `${origin}/health`, { allow: AWAY, context: { ignoreHTTPSErrors: true } });
  const cdp = await page.context().newCDPSession(page);
  await cdp.send('Network.enable');
  return { server, page, cdp };
}

for (const [over, how] of Object.entries(OVER)) {
  for (const coding of ['gzip', 'zstd'])
    test(`${over}: EventSource reads ${coding}, event by event`, async (t) => {
      const { server, page, cdp } = await open(t, how, ['--sse-codings', coding, '--sse-keepalive', '1s']);
      const answers = [];
      cdp.on('Network.responseReceived', ({ type, response }) => type === 'EventSource' && answers.push(response));
      const plain = await openSse(t, server, { channel: ['a', 'b'] });
      await plain.ready();
      await page.evaluate(() => {
        window.got = [];
        window.es = new EventSource('/events?channel=a&channel=b');
        window.es.addEventListener('crier.ready', () => (window.ready = true));
        window.es.addEventListener('crier.close', () => (window.told = true));
        window.es.onmessage = (e) => window.got.push([e.data, e.lastEventId]);
        window.es.onerror = () => (window.errors = (window.errors ?? 0) + 1);
      });
      await waitIn(page, () => window.ready);
      const headers = Object.fromEntries(Object.entries(answers[0].headers).map(([n, v]) => [n.toLowerCase(), v]));
      assert.deepEqual([headers['content-encoding'], answers[0].protocol], [coding, how.protocol]);
      for (const [i, [channel, body, type]] of MESSAGES.entries()) {
        await publish(server, channel, body, type ? { type } : {});
        await waitIn(page, (n) => window.got.length === n, i + 1);
      }
      const want = (await plain.events.take(MESSAGES.length)).map((e) => [e.data, e.id]);
      assert.deepEqual(await page.evaluate(() => window.got), want);
      await plain.items.upTo((item) => item.comment === '', 'a keep-alive');
      await publish(server, 'a', 'behind it');
      await waitIn(page, (n) => window.got.length === n, MESSAGES.length + 1);
      assert.equal(await page.evaluate(() => window.errors), undefined);
      server.proc.kill('SIGTERM');
      await waitIn(page, () => window.told && window.errors);
    });

  test(`${over}: WebSocket agrees to permessage-deflate and reads it`, async (t) => {
    const { server, page, cdp } = await open(t, how, []);
    const answers = [];
    cdp.on('Network.webSocketHandshakeResponseReceived', ({ response }) => answers.push(response));
    await page.evaluate(() => {
      window.got = [];
      window.ws = new WebSocket(`${location.origin.replace('http', 'ws')}/ws?channel=a&channel=b`);
      window.ws.onmessage = (e) => window.got.push(JSON.parse(e.data));
    });
    await waitIn(page, () => window.got[0]?.op === 'ready');
    assert.match(await page.evaluate(() => window.ws.extensions), /permessage-deflate/);
    await until(() => answers.length, 'the handshake');
    for (const [i, [channel, body, type]] of MESSAGES.entries()) {
      await publish(server, channel, body, type ? { type } : {});
      await waitIn(page, (n) => window.got.length === n, i + 2);
    }
    const got = (await page.evaluate(() => window.got)).slice(1);
    assert.deepEqual(got.map((m) => (m.encoding ? Buffer.from(m.data, 'base64') : m.data)), MESSAGES.map(([, body]) => body));
    // and answers compressed, which is inflated
    await page.evaluate((text) => window.ws.send(JSON.stringify({ op: 'publish', channel: 'a', data: text })), JSON_2K);
    await waitIn(page, (n) => window.got.filter((m) => m.op === 'message').length === n, MESSAGES.length + 1);
  });
}
