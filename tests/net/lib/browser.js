// browser.js - one real Chromium per test file, one fresh context per test.

import assert from 'node:assert/strict';
import { createHash, X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { tlsEverywhere } from './dial.js';
import { atEnd, GUARD_MS } from './wait.js';

const EXECUTABLE = process.env.CHROMIUM || '/usr/bin/chromium';
const ARGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
];

// Trusts the certificate of that file as if its authority were known: nothing is refused first, and
// a WebSocket is treated like all else. (The context's ignoreHTTPSErrors refuses and comes again.)
function trusting(file) {
  const key = new X509Certificate(readFileSync(file)).publicKey.export({ type: 'spki', format: 'der' });
  return `--ignore-certificate-errors-spki-list=${createHash('sha256').update(key).digest('base64')}`;
}

export async function launch({ certificate = tlsEverywhere?.cert, args = [] } = {}) {
  if (!existsSync(EXECUTABLE)) throw new Error(`${EXECUTABLE} is missing; set CHROMIUM to a Chromium`);
  const trust = certificate ? [trusting(certificate)] : [];
  return chromium.launch({ executablePath: EXECUTABLE, args: [...ARGS, ...trust, ...args], headless: true });
}

// What the browser itself says about the page's connections, by its protocol (CDP): an answer is
// {type, url, status, protocol, connection}; a WebSocket's has no protocol, but 200 is HTTP/2
// (RFC 8441) and 101 is HTTP/1.1.
export async function watchNetwork(page) {
  const answers = [];
  const cdp = await page.context().newCDPSession(page);
  cdp.on('Network.responseReceived', ({ type, response: r }) =>
    answers.push({ type, url: r.url, status: r.status, protocol: r.protocol, connection: r.connectionId }));
  cdp.on('Network.webSocketHandshakeResponseReceived', ({ response: r }) => answers.push({ type: 'WebSocket', status: r.status }));
  await cdp.send('Network.enable');
  return answers;
}

// A page whose console must stay clean. `allow` names what a test provokes, such as a lost server.
export async function openPage(t, browser, url, { allow = null, context: options = {} } = {}) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(GUARD_MS);
  const page = await context.newPage();
  const complaints = [];
  page.on('console', (m) => {
    if (['error', 'warning'].includes(m.type()) && !(allow && allow.test(m.text()))) complaints.push(`${m.type()}: ${m.text()} ${m.location().url}`);
  });
  page.on('pageerror', (e) => complaints.push(`exception: ${e.message}`));
  atEnd(t, async () => {
    await context.close();
    assert.deepEqual(complaints, [], 'the console stays clean');
  });
  await page.goto(url);
  return page;
}

// Waits until `condition` (in the page) gives something truthy.
export function waitIn(page, condition, argument) {
  return page.waitForFunction(condition, argument, { polling: 50 });
}
