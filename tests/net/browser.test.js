// The demo pages in a real Chromium: what is published arrives, and goes on arriving.

import assert from 'node:assert/strict';
import test, { after, before } from 'node:test';
import { launch, openPage, waitIn } from './lib/browser.js';
import { allLive, AWAY, COLUMNS, hasCount, inState, texts, verdict } from './lib/demo.js';
import { history, numbered, publish, publishMany } from './lib/http.js';
import { startRelay } from './lib/relay.js';
import { startServer } from './lib/server.js';

let browser;
before(async () => {
  browser = await launch();
});
after(() => browser?.close());

test('the same message arrives over EventSource, WebSocket and long polling', async (t) => {
  const server = await startServer(t, ['--workers', '2']);
  const page = await openPage(t, browser, `${server.origin}/?channel=news`);
  await allLive(page);
  await page.fill('#publish-text', 'hear <b>ye</b>');
  await page.fill('#publish-event', 'call');
  await page.press('#publish-text', 'Enter');
  for (const column of COLUMNS) {
    await hasCount(page, column, 1);
    assert.deepEqual(await texts(page, column), ['hear <b>ye</b>']);
  }
  await verdict(page, 'same');
  const { messages } = await history(server, 'news');
  assert.deepEqual(messages.map((m) => [m.data, m.event]), [['hear <b>ye</b>', 'call']]);
  for (const column of COLUMNS) {
    assert.equal(await page.getAttribute(`#col-${column}`, 'data-cursor'), messages[0].id);
    assert.equal(await page.textContent(`#col-${column} .log .chip`), 'call');
  }
  assert.match(await page.textContent('#publish-result'), new RegExp(messages[0].id));
});

test('what is published elsewhere arrives, in order, and the columns agree', async (t) => {
  const server = await startServer(t);
  const page = await openPage(t, browser, server.origin);
  await allLive(page);
  for (let i = 0; i < 5; i++) await publishMany(server, 'demo', numbered(`batch ${i} `, 20));
  for (const column of COLUMNS) await hasCount(page, column, 100);
  const [sse, ws, poll] = await Promise.all(COLUMNS.map((c) => texts(page, c)));
  assert.deepEqual(ws, sse);
  assert.deepEqual(poll, sse);
  assert.deepEqual(sse, [0, 1, 2, 3, 4].flatMap((i) => numbered(`batch ${i} `, 20)));
  const digests = await page.$$eval('.column', (all) => all.map((c) => c.dataset.digest));
  assert.equal(new Set(digests).size, 1);
  await verdict(page, 'same');
});

test('the burst publishes twenty in one request', async (t) => {
  const server = await startServer(t);
  const page = await openPage(t, browser, server.origin);
  await allLive(page);
  await page.click('#burst-button');
  for (const column of COLUMNS) await hasCount(page, column, 20);
  await verdict(page, 'same');
});

for (const column of COLUMNS) {
  test(`${column}: cut and resumed, it has missed nothing`, async (t) => {
    const server = await startServer(t);
    const page = await openPage(t, browser, server.origin);
    await allLive(page);
    await publish(server, 'demo', 'before');
    for (const c of COLUMNS) await hasCount(page, c, 1);
    await page.click(`#cut-${column}`);
    await inState(page, column, 'cut');
    const left = COLUMNS.filter((c) => c !== column);
    await server.connected({ [column]: 0 });
    await publishMany(server, 'demo', ['missed 1', 'missed 2']);
    for (const c of left) await hasCount(page, c, 3);
    await verdict(page, 'behind');
    assert.deepEqual(await texts(page, column), ['before']);
    await page.click(`#resume-${column}`);
    await hasCount(page, column, 3);
    await publish(server, 'demo', 'after');
    for (const c of COLUMNS) {
      await hasCount(page, c, 4);
      assert.deepEqual(await texts(page, c), ['before', 'missed 1', 'missed 2', 'after']);
    }
    await verdict(page, 'same');
    assert.equal(await page.$$eval('.log .gap', (g) => g.length), 0);
  });
}

test('a cut that lasted too long shows the gap', async (t) => {
  const server = await startServer(t, ['--history', '3']);
  const page = await openPage(t, browser, server.origin);
  await allLive(page);
  await publish(server, 'demo', 'start');
  for (const c of COLUMNS) await hasCount(page, c, 1);
  for (const c of COLUMNS) await page.click(`#cut-${c}`);
  await publishMany(server, 'demo', numbered('m', 10));
  for (const c of COLUMNS) await page.click(`#resume-${c}`);
  for (const c of COLUMNS) {
    await hasCount(page, c, 4);
    assert.equal(await page.getAttribute(`#col-${c} .log .gap`, 'data-reason'), 'expired');
    assert.deepEqual(await texts(page, c), ['start', 'm7', 'm8', 'm9']);
  }
  await verdict(page, 'same');
});

test('a restarted server: all three come back by themselves and say the gap', async (t) => {
  const flags = ['--sse-retry', '300ms', '--drain', '1s'];
  const first = await startServer(t, flags);
  const page = await openPage(t, browser, first.origin, { allow: AWAY });
  await allLive(page);
  await publish(first, 'demo', 'first run');
  for (const c of COLUMNS) await hasCount(page, c, 1);
  await first.stop();
  for (const c of COLUMNS) await inState(page, c, 'waiting');
  const second = await startServer(t, flags, { port: first.port });
  await publish(second, 'demo', 'second run');
  for (const c of COLUMNS) {
    await hasCount(page, c, 2);
    assert.equal(await page.getAttribute(`#col-${c}`, 'data-gap-reason'), 'epoch');
    assert.deepEqual(await texts(page, c), ['first run', 'second run']);
  }
  await allLive(page);
  await verdict(page, 'same');
  await publish(second, 'demo', 'and on');
  for (const c of COLUMNS) await hasCount(page, c, 3);
});

test('a server that was killed: the browser\'s own EventSource reconnects, from Last-Event-ID', async (t) => {
  const first = await startServer(t, ['--sse-retry', '200ms']);
  const page = await openPage(t, browser, `${first.origin}/favicon.svg`, { allow: AWAY });
  await page.evaluate((url) => {
    window.seen = [];
    window.source = new EventSource(url);
    window.source.onmessage = (e) => window.seen.push(e.data);
    for (const type of ['crier.ready', 'crier.gap', 'crier.close'])
      window.source.addEventListener(type, (e) => window.seen.push(`${type} ${JSON.parse(e.data).reason || ''}`.trim()));
  }, '/events?channel=a');
  await waitIn(page, () => window.seen.includes('crier.ready'));
  await publish(first, 'a', 'one');
  await waitIn(page, () => window.seen.includes('one'));
  await first.crash();
  const second = await startServer(t, ['--sse-retry', '200ms'], { port: first.port });
  await publish(second, 'a', 'two');
  await waitIn(page, () => window.seen.includes('two'));
  assert.deepEqual(await page.evaluate(() => window.seen), ['crier.ready', 'one', 'crier.ready', 'crier.gap epoch', 'two']);
});

test('a connection that was cut: the browser\'s own EventSource goes on without loss', async (t) => {
  const server = await startServer(t, ['--sse-retry', '200ms', '--history', '2000']);
  const relay = await startRelay(t, server);
  const page = await openPage(t, browser, `${relay.origin}/favicon.svg`, { allow: AWAY });
  await page.evaluate(() => {
    window.ids = [];
    window.seen = [];
    window.source = new EventSource('/events?channel=a');
    window.source.onmessage = (e) => window.ids.push(e.lastEventId);
    for (const type of ['crier.ready', 'crier.gap']) window.source.addEventListener(type, () => window.seen.push(type));
  });
  const published = [];
  for (let cuts = 1; cuts <= 3; cuts++) {
    await waitIn(page, (n) => window.seen.length === n, cuts);
    published.push(...(await publishMany(server, 'a', numbered(`live ${cuts} `, 5))));
    await waitIn(page, (id) => window.ids.includes(id), published.at(-1));
    relay.cut();
    published.push(...(await publishMany(server, 'a', numbered(`missed ${cuts} `, 5))));
  }
  await waitIn(page, (id) => window.ids.includes(id), published.at(-1));
  assert.deepEqual(await page.evaluate(() => window.ids), published);
  assert.deepEqual(await page.evaluate(() => window.seen), Array(4).fill('crier.ready'));
});

test('connections that were cut: the three columns of the page agree again', async (t) => {
  const server = await startServer(t, ['--sse-retry', '200ms']);
  const relay = await startRelay(t, server);
  const page = await openPage(t, browser, relay.origin, { allow: AWAY });
  await allLive(page);
  await publish(server, 'demo', 'before');
  for (const c of COLUMNS) await hasCount(page, c, 1);
  relay.cut();
  await publishMany(server, 'demo', ['missed 1', 'missed 2']);
  for (const c of COLUMNS) {
    await hasCount(page, c, 3);
    assert.deepEqual(await texts(page, c), ['before', 'missed 1', 'missed 2']);
  }
  await verdict(page, 'same');
  assert.equal(await page.$$eval('.log .gap', (g) => g.length), 0);
});

test('chat between two windows', async (t) => {
  const server = await startServer(t, ['--workers', '2']);
  const first = await openPage(t, browser, `${server.origin}/chat.html`);
  await first.fill('#room', 'tea');
  await first.press('#room', 'Enter');
  await waitIn(first, () => document.getElementById('room-view').dataset.state === 'open');
  const me = await first.textContent('#me');
  const second = await openPage(t, browser, `${server.origin}/chat.html?room=tea`);
  await waitIn(second, () => document.getElementById('room-view').dataset.state === 'open');
  const other = await second.textContent('#me');
  assert.notEqual(me, other);
  await waitIn(first, (who) => [...document.querySelectorAll('#messages .system')].some((e) => e.textContent.includes(`${who} joined the room`)), other);
  await waitIn(first, () => document.getElementById('people-count').textContent === '2');
  await first.fill('#chat-text', 'hello <img src=x onerror=alert(1)>');
  await first.press('#chat-text', 'Enter');
  const said = (page, kind, text) =>
    waitIn(page, ([k, s]) => [...document.querySelectorAll(`#messages .${k} .body`)].some((e) => e.textContent === s), [kind, text]);
  await said(first, 'mine', 'hello <img src=x onerror=alert(1)>');
  await said(second, 'theirs', 'hello <img src=x onerror=alert(1)>');
  await second.fill('#chat-text', 'hello back');
  await second.click('#send');
  await said(first, 'theirs', 'hello back');
  await second.click('#leave');
  await waitIn(first, (who) => [...document.querySelectorAll('#messages .system')].some((e) => e.textContent.includes(`${who} left the room`)), other);
  await waitIn(first, () => document.getElementById('people-count').textContent === '1');
  assert.equal(await second.isVisible('#join'), true);
});

test('who comes later sees what was said; after a restart the room is joined again', async (t) => {
  const first = await startServer(t, ['--drain', '1s']);
  const page = await openPage(t, browser, `${first.origin}/chat.html?room=tea`, { allow: AWAY });
  await waitIn(page, () => document.getElementById('room-view').dataset.state === 'open');
  await page.fill('#chat-text', 'early');
  await page.press('#chat-text', 'Enter');
  await page.waitForSelector('#messages .mine');
  const later = await openPage(t, browser, `${first.origin}/chat.html?room=tea`, { allow: AWAY });
  await waitIn(later, () => [...document.querySelectorAll('#messages .theirs .body')].some((e) => e.textContent === 'early'));
  const before = await page.textContent('#me');
  await first.stop();
  await startServer(t, [], { port: first.port });
  for (const p of [page, later]) await waitIn(p, () => document.getElementById('room-view').dataset.state === 'open');
  await waitIn(page, (id) => document.getElementById('me').textContent !== id, before);
  await page.fill('#chat-text', 'again');
  await page.press('#chat-text', 'Enter');
  await waitIn(later, () => [...document.querySelectorAll('#messages .theirs .body')].some((e) => e.textContent === 'again'));
});
