// demo.js - one channel over three transports.
//
// A Column is what a person sees: state, cursor, messages. A transport is how it gets there: an
// object with start() and stop() that reports to its column. All three begin at one cursor, so
// that their lists can be compared, and each goes on from its own after a cut.

import { refreshStatus, watchStatus } from '/status.js';

const CHANNEL = new URLSearchParams(location.search).get('channel') || 'demo';
const LOG_ROWS = 200;
const BURST = 20;
const columns = [];

function url(path, query, scheme) {
  const u = new URL(path, location.href);
  for (const [name, value] of Object.entries(query)) if (value) u.searchParams.set(name, value);
  if (scheme) u.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  return u.href;
}

function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

// FNV-1a over the ids in the order they came: equal digests mean equal order.
function digestNext(hash, text) {
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

// Waits grow from half a second to five, so that a restarted server is not stormed.
class Backoff {
  constructor() {
    this.failures = 0;
    this.timer = 0;
  }
  reset() {
    this.failures = 0;
  }
  cancel() {
    clearTimeout(this.timer);
  }
  later(action) {
    const base = Math.min(5000, 500 * 2 ** this.failures++);
    clearTimeout(this.timer);
    this.timer = setTimeout(action, base / 2 + Math.random() * (base / 2));
  }
}

const STATES = {
  idle: 'idle',
  connecting: 'connecting…',
  open: 'live',
  waiting: 'reconnecting…',
  cut: 'cut',
};

class Column {
  constructor(name, title, makeTransport) {
    this.title = title;
    this.root = document.getElementById(`col-${name}`);
    this.part = {};
    for (const e of this.root.querySelectorAll('[data-part]')) this.part[e.dataset.part] = e;
    this.ids = [];
    this.gaps = 0;
    this.digest = 0x811c9dc5;
    this.cursor = '';
    this.transport = makeTransport(this);
    this.part.cut.addEventListener('click', () => this.cut());
    this.part.resume.addEventListener('click', () => this.resume());
    this.setState('idle');
  }

  get isCut() {
    return this.state === 'cut';
  }

  setState(state, note = '') {
    this.state = state;
    this.root.dataset.state = state;
    this.part.state.textContent = STATES[state];
    this.part.note.textContent = note;
    this.part.cut.disabled = state === 'cut' || state === 'idle';
    this.part.resume.disabled = state !== 'cut';
    judge();
  }

  setCursor(cursor) {
    if (!cursor) return;
    this.cursor = cursor;
    this.root.dataset.cursor = cursor;
    this.part.cursor.textContent = cursor;
  }

  start() {
    this.setState('connecting');
    this.transport.start();
  }

  cut() {
    const hadFocus = document.activeElement === this.part.cut;
    this.transport.stop();
    this.setState('cut', 'Cut here. The cursor is kept.');
    if (hadFocus) this.part.resume.focus();
  }

  resume() {
    const hadFocus = document.activeElement === this.part.resume;
    this.start();
    if (hadFocus) this.part.cut.focus();
  }

  opened() {
    this.setState('open');
  }

  lost(why) {
    if (!this.isCut) this.setState('waiting', why);
  }

  message(envelope, cursor) {
    this.ids.push(envelope.id);
    this.digest = digestNext(this.digest, envelope.id);
    this.setCursor(cursor);
    this.root.dataset.count = this.ids.length;
    this.root.dataset.digest = this.digest.toString(16).padStart(8, '0');
    this.part.count.textContent = this.ids.length;
    this.part.digest.textContent = this.root.dataset.digest;
    this.row(messageRow(envelope));
    judge();
  }

  gap(gap) {
    this.gaps++;
    this.root.dataset.gaps = this.gaps;
    this.root.dataset.gapReason = gap.reason;
    this.setCursor(gap.cursor);
    this.row(gapRow(gap));
    judge();
  }

  row(row) {
    this.part.log.prepend(row);
    if (this.part.log.childElementCount > LOG_ROWS) this.part.log.lastElementChild.remove();
  }
}

function messageRow(envelope) {
  const row = element('li', 'message');
  row.dataset.id = envelope.id;
  const text = typeof envelope.data === 'string' ? envelope.data : JSON.stringify(envelope.data);
  const head = element('div', 'head');
  const time = new Date(envelope.time);
  const stamp = element('time', '', time.toLocaleTimeString());
  stamp.dateTime = time.toISOString();
  head.append(stamp);
  if (envelope.event) head.append(element('span', 'chip', envelope.event));
  if (envelope.encoding) head.append(element('span', 'chip', envelope.encoding));
  head.append(element('code', 'id', envelope.id));
  row.append(head, element('div', 'body', text));
  return row;
}

const GAP_TEXT = {
  expired: 'Some messages after the cursor are no longer kept.',
  epoch: 'The server was restarted: the cursor is from its earlier run.',
  ahead: 'The cursor is beyond the newest message.',
  no_position: 'The cursor says nothing about this channel.',
};

function gapRow(gap) {
  const row = element('li', 'gap');
  row.dataset.reason = gap.reason;
  row.append(element('strong', '', `Gap: ${gap.reason}`));
  row.append(element('span', '', GAP_TEXT[gap.reason] || 'The cursor could not be honoured.'));
  return row;
}

// ---- transports --------------------------------------------------------------------------------

function eventSourceTransport(column) {
  const backoff = new Backoff();
  let source = null;

  function start() {
    const own = (source = new EventSource(url('/events', { channel: CHANNEL, format: 'json', since: column.cursor })));
    own.addEventListener('crier.ready', (e) => {
      backoff.reset();
      column.setCursor(e.lastEventId);
      column.opened();
    });
    own.addEventListener('crier.gap', (e) => column.gap(JSON.parse(e.data)));
    own.addEventListener('crier.close', (e) => column.lost(JSON.parse(e.data).reason));
    own.addEventListener('message', (e) => column.message(JSON.parse(e.data), e.lastEventId));
    own.addEventListener('error', () => {
      if (own !== source) return;
      // The browser comes back by itself with Last-Event-ID, unless the answer was no stream.
      column.lost('The browser reconnects with Last-Event-ID.');
      if (own.readyState === EventSource.CLOSED) backoff.later(start);
    });
  }

  function stop() {
    backoff.cancel();
    source?.close();
    source = null;
  }

  return { start, stop };
}

function webSocketTransport(column) {
  const backoff = new Backoff();
  let socket = null;

  const on = {
    ready: () => socket.send(JSON.stringify({ op: 'subscribe', channel: CHANNEL, since: column.cursor || undefined, ref: 1 })),
    ok(m) {
      backoff.reset();
      if (!column.cursor) column.setCursor(m.cursor);
      column.opened();
    },
    message: (m) => column.message(m, m.id),
    gap: (m) => column.gap(m),
    error: (m) => column.lost(`${m.code}: ${m.message}`),
  };

  function start() {
    const own = (socket = new WebSocket(url('/ws', {}, 'ws'), ['crier.v1']));
    own.addEventListener('message', (e) => {
      if (own !== socket) return;
      const m = JSON.parse(e.data);
      on[m.op]?.(m);
    });
    own.addEventListener('close', (e) => {
      if (own !== socket) return;
      column.lost(e.code === 1006 ? 'Connection lost.' : `Closed with ${e.code}${e.reason ? `: ${e.reason}` : ''}.`);
      backoff.later(start);
    });
  }

  function stop() {
    backoff.cancel();
    const own = socket;
    socket = null;
    own?.close(1000);
  }

  return { start, stop };
}

function pollTransport(column) {
  const backoff = new Backoff();
  let abort = null;

  // The first poll asks for an answer at once, to know that the server is there.
  async function loop(own) {
    let timeout = '0';
    while (!own.signal.aborted) {
      const answer = await fetch(url('/poll', { channel: CHANNEL, since: column.cursor, timeout }), {
        signal: own.signal,
        cache: 'no-store',
      });
      if (!answer.ok) throw new Error(`The server answered ${answer.status}.`);
      const batch = await answer.json();
      if (own.signal.aborted) return;
      backoff.reset();
      if (column.state !== 'open') column.opened();
      for (const gap of batch.gaps) column.gap(gap);
      for (const envelope of batch.messages) column.message(envelope, envelope.id);
      column.setCursor(batch.cursor);
      timeout = '25';
    }
  }

  function start() {
    const own = (abort = new AbortController());
    loop(own).catch((e) => {
      if (own.signal.aborted) return;
      column.lost(e instanceof TypeError ? 'Connection lost.' : e.message);
      backoff.later(start);
    });
  }

  function stop() {
    backoff.cancel();
    abort?.abort();
  }

  return { start, stop };
}

// ---- do all three have the same? ---------------------------------------------------------------

let agreed = 0; // the first so many messages are the same in every column

function plural(n) {
  return n === 1 ? '1 message' : `${n} messages`;
}

function judgement() {
  if (columns.length < 3) return ['empty', 'Connecting…'];
  const sizes = columns.map((c) => c.ids.length);
  while (agreed < Math.min(...sizes) && columns.every((c) => c.ids[agreed] === columns[0].ids[agreed])) agreed++;
  const longest = Math.max(...sizes);
  const atNext = columns.filter((c) => c.ids.length > agreed).map((c) => c.ids[agreed]);
  if (new Set(atNext).size > 1)
    return columns.some((c) => c.gaps)
      ? ['differ', `The columns differ from message ${agreed + 1} on, after an announced gap.`]
      : ['wrong', `The columns differ from message ${agreed + 1} on.`];
  const behind = columns.filter((c) => c.ids.length < longest);
  if (behind.length)
    return ['behind', behind.map((c) => `${c.title} is ${plural(longest - c.ids.length)} behind${c.isCut ? ' (cut)' : ''}`).join(', ') + '.'];
  if (longest) return ['same', `All three have the same ${plural(longest)} in the same order.`];
  const live = columns.filter((c) => c.state === 'open').length;
  return ['empty', live === 3 ? 'All three are live. Publish something.' : `${live} of 3 live.`];
}

function judge() {
  const [state, text] = judgement();
  const verdict = document.getElementById('verdict');
  const words = document.getElementById('verdict-text');
  verdict.dataset.state = state;
  verdict.dataset.agreed = agreed;
  if (words.textContent !== text) words.textContent = text;
}

// ---- publishing --------------------------------------------------------------------------------

function showResult(state, text) {
  const result = document.getElementById('publish-result');
  result.dataset.state = state;
  result.textContent = text;
}

async function publish(path, options, say) {
  try {
    const answer = await fetch(path, { method: 'POST', ...options });
    const body = await answer.json();
    if (answer.ok) showResult('ok', say(body));
    else showResult('error', `${body.title || answer.status}: ${body.detail || body.code}`);
    return answer.ok;
  } catch {
    showResult('error', 'Not published: the server is not reachable.');
    return false;
  }
}

async function publishForm(e) {
  e.preventDefault();
  const text = document.getElementById('publish-text');
  const event = document.getElementById('publish-event').value.trim();
  const sent = text.value;
  if (!sent) return text.focus();
  const done = await publish(
    url('/publish', { channel: CHANNEL, event }),
    { body: sent, headers: { 'Content-Type': 'text/plain; charset=utf-8' } },
    (body) => `Published as ${body.id}.`,
  );
  if (done && text.value === sent) text.value = '';
}

function publishBurst() {
  const words = document.getElementById('publish-text').value || 'burst';
  const batch = [];
  for (let i = 1; i <= BURST; i++) batch.push({ channel: CHANNEL, data: `${words} ${i}/${BURST}` });
  return publish(
    '/api/publish',
    { body: JSON.stringify(batch), headers: { 'Content-Type': 'application/json' } },
    (body) => `Published ${body.length}, the last as ${body[body.length - 1].id}.`,
  );
}

// ---- start -------------------------------------------------------------------------------------

// A poll without a cursor answers at once with the present one: the common start of all three.
async function startCursor() {
  const answer = await fetch(url('/poll', { channel: CHANNEL }), { cache: 'no-store' });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.detail || body.code);
  return body.cursor;
}

function startWhenPossible(backoff) {
  startCursor().then(
    (cursor) => {
      for (const column of columns) {
        column.setCursor(cursor);
        column.start();
      }
    },
    (e) => {
      for (const column of columns) column.lost(e instanceof TypeError ? 'The server is not reachable.' : e.message);
      backoff.later(() => startWhenPossible(backoff));
    },
  );
}

document.getElementById('publish-channel').textContent = CHANNEL;
document.getElementById('channel').value = CHANNEL;
// A certificate for this very machine is one that nobody else has signed.
const curl = /^https:\/\/(localhost|127\.0\.0\.1|\[::1\])[:/]/.test(location.href) ? 'curl -k' : 'curl';
document.querySelector('#shell code').textContent =
  `${curl} -N '${url('/events', { channel: CHANNEL })}'\n` + `${curl} -d 'hello' '${url('/publish', { channel: CHANNEL })}'`;
document.getElementById('publish-form').addEventListener('submit', publishForm);
document.getElementById('burst-button').addEventListener('click', publishBurst);

columns.push(
  new Column('sse', 'EventSource', eventSourceTransport),
  new Column('ws', 'WebSocket', webSocketTransport),
  new Column('poll', 'Long polling', pollTransport),
);
startWhenPossible(new Backoff());
watchStatus();
setTimeout(refreshStatus, 700); // once more when the three are connected
