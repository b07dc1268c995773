// demo.js - what the tests look at in the demo page.

import { waitIn } from './browser.js';

export const COLUMNS = ['sse', 'ws', 'poll'];
// What Chromium itself writes when a server goes away under its requests.
export const AWAY = /net::ERR_|WebSocket connection to|Failed to load resource/;

export const inState = (page, column, state) =>
  waitIn(page, ([id, s]) => document.getElementById(id).dataset.state === s, [`col-${column}`, state]);
export const allLive = async (page) => {
  for (const column of COLUMNS) await inState(page, column, 'open');
};
export const texts = (page, column) =>
  page.$$eval(`#col-${column} .log .message .body`, (rows) => rows.map((r) => r.textContent).reverse());
export const hasCount = (page, column, n) =>
  waitIn(page, ([id, k]) => document.getElementById(id).dataset.count === String(k), [`col-${column}`, n]);
export const verdict = (page, state) => waitIn(page, (s) => document.getElementById('verdict').dataset.state === s, state);
