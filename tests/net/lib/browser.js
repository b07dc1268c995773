// browser.js - one real Chromium per test file, one fresh context per test.

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';
import { atEnd, GUARD_MS } from './wait.js';

const EXECUTABLE = process.env.CHROMIUM || '/usr/bin/chromium';
const ARGS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage',
];

export async function launch({ args = [] } = {}) {
  if (!existsSync(EXECUTABLE)) throw new Error(`${EXECUTABLE} is missing; set CHROMIUM to a Chromium`);
  return chromium.launch({ executablePath: EXECUTABLE, args: [...ARGS, ...args], headless: true });
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
