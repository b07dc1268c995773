// What else the pages do for a person: they say how the server is, take the keyboard, and fit the
// screen.

import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { launch, openPage, waitIn } from './lib/browser.js';
import { allLive, AWAY, inState } from './lib/demo.js';
import { startServer } from './lib/server.js';

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

test('the header says how the server is', async (t) => {
  const server = await startServer(t);
  const page = await openPage(t, browser, server.origin, { allow: AWAY });
  await waitIn(page, () => document.getElementById('status').dataset.state === 'ok');
  await waitIn(page, () => /^3 listeners · up \d+ s · \d+\.\d+\.\d+$/.test(document.getElementById('status-text').textContent));
  await waitIn(page, (http) => document.getElementById('protocol').textContent === http, 'HTTP/1.1');
  await server.stop();
  await waitIn(page, () => document.getElementById('status').dataset.state === 'away');
});

test('a refused publish says why', async (t) => {
  const server = await startServer(t, ['--max-message', '10']);
  const page = await openPage(t, browser, server.origin, { allow: /413/ });
  await allLive(page);
  await page.fill('#publish-text', 'much too long for this server');
  await page.click('#publish-button');
  await waitIn(page, () => document.getElementById('publish-result').dataset.state === 'error');
  assert.equal(await page.inputValue('#publish-text'), 'much too long for this server', 'the words are kept');
});

test('everything can be reached and done with the keyboard', async (t) => {
  const server = await startServer(t);
  const page = await openPage(t, browser, server.origin);
  await allLive(page);
  const reached = new Set();
  for (let i = 0; i < 30; i++) {
    await page.keyboard.press('Tab');
    reached.add(await page.evaluate(() => document.activeElement.id));
  }
  for (const id of ['publish-text', 'publish-event', 'publish-button', 'burst-button', 'cut-sse', 'cut-ws', 'cut-poll', 'channel']) assert.ok(reached.has(id), id);
  await page.focus('#cut-ws');
  await page.keyboard.press('Enter');
  await inState(page, 'ws', 'cut');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'resume-ws', 'the focus goes along');
  await page.keyboard.press('Space');
  await inState(page, 'ws', 'open');
});

for (const [name, options] of [
  ['a phone', { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true }],
  ['dark mode', { colorScheme: 'dark' }],
]) {
  test(`on ${name} nothing is cut off`, async (t) => {
    const server = await startServer(t);
    for (const path of ['/', '/chat.html?room=a-room-with-a-very-long-name-that-goes-on-and-on-and-on']) {
      const page = await openPage(t, browser, server.origin + path, { context: options });
      await page.waitForSelector('#status[data-state=ok]');
      const { wide, client } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, client: document.documentElement.clientWidth }));
      assert.ok(wide <= client, `${path}: ${wide} > ${client}`);
      const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const dark = background.match(/\d+/g).slice(0, 3).every((v) => Number(v) < 80);
      assert.equal(dark, options.colorScheme === 'dark', background);
    }
  });
}
