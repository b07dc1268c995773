// chat.js - one room over one WebSocket, GET /chat/ROOM.
//
// After a lost connection the log is built anew from the room's kept messages: the server's order
// is the truth, and nothing has to be merged here.

import { watchStatus } from '/status.js';

const HISTORY = 50;
const ROWS = 500;
const COLOURS = 8;
const $ = (id) => document.getElementById(id);

let room = '';
let me = '';
let socket = null;
let timer = 0;
let failures = 0;
let peopleAsked = 0;

function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

function colour(client) {
  if (client === me) return 'colour-me';
  let sum = 0;
  for (const c of client) sum = (sum * 31 + c.codePointAt(0)) >>> 0;
  return `colour-${sum % COLOURS}`;
}

function setState(state, text) {
  $('main').dataset.state = state === 'out' ? 'out' : 'in';
  $('room-view').dataset.state = state;
  $('chat-state').textContent = text;
  $('send').disabled = state !== 'open';
}

// ---- what is shown -----------------------------------------------------------------------------

function stamp(timestamp) {
  const time = new Date(timestamp);
  const e = element('time', '', time.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' }));
  e.dateTime = timestamp;
  return e;
}

function append(row) {
  const log = $('messages');
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
  log.append(row);
  if (log.childElementCount > ROWS) log.firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function notice(className, text, timestamp) {
  const row = element('li', className);
  row.append(element('span', '', text));
  if (timestamp) row.append(stamp(timestamp));
  append(row);
}

function speech(m) {
  const mine = m.client_id === me;
  const row = element('li', `message ${mine ? 'mine' : 'theirs'}`);
  row.dataset.client = m.client_id;
  const head = element('div', 'head');
  head.append(element('strong', colour(m.client_id), mine ? 'You' : m.client_id), stamp(m.timestamp));
  row.append(head, element('div', 'body', m.content));
  append(row);
}

async function showPeople() {
  const mine = ++peopleAsked; // an answer that was overtaken is old news
  try {
    const answer = await fetch(`/api/channels/${encodeURIComponent(`chat:${room}`)}/presence`, { cache: 'no-store' });
    const { members, total } = await answer.json();
    if (!answer.ok || mine !== peopleAsked) return;
    $('people-count').textContent = total;
    $('people').replaceChildren(
      ...members.map((m) => {
        const li = element('li', colour(m.client), m.client === me ? 'You' : m.client);
        li.dataset.client = m.client;
        return li;
      }),
    );
  } catch {
    // The next notice asks again.
  }
}

// Rooms with somebody in them, to be joined with a click.
function showRooms(stats) {
  const rooms = Object.entries(stats.rooms || {}).sort((a, b) => b[1] - a[1]).slice(0, 12);
  $('rooms').hidden = rooms.length === 0;
  $('rooms-list').replaceChildren(
    ...rooms.map(([name, people]) => {
      const li = element('li');
      const link = element('a', 'button', name);
      link.href = `/chat.html?room=${encodeURIComponent(name)}`;
      link.append(element('span', 'people-in', people));
      li.append(link);
      return li;
    }),
  );
}

// ---- the connection ----------------------------------------------------------------------------

const on = {
  system(m) {
    if (m.client_id) {
      me = m.client_id;
      failures = 0;
      $('me').textContent = me;
      setState('open', 'live');
    }
    notice('system', m.message, m.timestamp);
    showPeople();
  },
  message: speech,
  error: (m) => notice('error', m.message),
};

function connect() {
  const scheme = location.protocol === 'https:' ? 'wss:' : 'ws:';
  const own = new WebSocket(`${scheme}//${location.host}/chat/${encodeURIComponent(room)}?history=${HISTORY}`);
  socket = own;
  setState(failures ? 'waiting' : 'connecting', failures ? 'reconnecting…' : 'connecting…');
  own.addEventListener('open', () => own === socket && $('messages').replaceChildren());
  own.addEventListener('message', (e) => {
    if (own !== socket) return;
    const m = JSON.parse(e.data);
    on[m.type]?.(m);
  });
  own.addEventListener('close', (e) => own === socket && lost(e));
}

function lost(e) {
  const base = Math.min(5000, 500 * 2 ** failures++);
  setState('waiting', 'reconnecting…');
  notice('error', e.code === 1006 ? 'Connection lost.' : `Closed with ${e.code}${e.reason ? `: ${e.reason}` : ''}.`);
  clearTimeout(timer);
  timer = setTimeout(connect, base / 2 + Math.random() * (base / 2));
}

function disconnect() {
  clearTimeout(timer);
  const own = socket;
  socket = null;
  own?.close(1000);
}

// ---- joining and leaving -----------------------------------------------------------------------

function enter(name) {
  room = name;
  me = '';
  failures = 0;
  document.title = `${room} · crier chat`;
  $('room-title').textContent = room;
  $('me').textContent = '…';
  $('second').href = `/chat.html?room=${encodeURIComponent(room)}`;
  $('messages').replaceChildren();
  $('people').replaceChildren();
  $('join').hidden = true;
  $('room-view').hidden = false;
  connect();
  $('chat-text').focus();
}

function leave() {
  disconnect();
  setState('out', 'left');
  document.title = 'crier · chat';
  $('room-view').hidden = true;
  $('join').hidden = false;
  $('room').focus();
}

// The address names the room, so that it can be sent to a friend, and Back leaves it.
function follow() {
  const name = new URLSearchParams(location.search).get('room');
  if (name) {
    disconnect();
    $('room').value = name;
    enter(name);
  } else if (room) {
    leave();
  }
}

$('join-form').addEventListener('submit', (e) => {
  e.preventDefault();
  history.pushState(null, '', `/chat.html?room=${encodeURIComponent($('room').value)}`);
  follow();
});
$('leave').addEventListener('click', () => {
  history.pushState(null, '', '/chat.html');
  leave();
});
$('chat-form').addEventListener('submit', (e) => {
  e.preventDefault();
  if ($('room-view').dataset.state !== 'open' || !$('chat-text').value) return;
  socket.send(JSON.stringify({ content: $('chat-text').value }));
  $('chat-text').value = '';
});
addEventListener('popstate', follow);
follow();
watchStatus(showRooms);
