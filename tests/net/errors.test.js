// Every refusal has a status and a code of its own, as problem+json.

import assert from 'node:assert/strict';
import test from 'node:test';
import { get, numbered, publish, request } from './lib/http.js';
import { startServer } from './lib/server.js';

const LONG = 'x'.repeat(201);
const MANY = numbered('channel=c', 33).join('&');

const CASES = [
  // [method, path, status, code]
  ...['/events', '/poll'].flatMap((path) => [
    ['GET', path, 400, 'missing_channel'],
    ['GET', `${path}?channel=`, 400, 'bad_channel'],
    ['GET', `${path}?channel=a%20b`, 400, 'bad_channel'],
    ['GET', `${path}?channel=a%00b`, 400, 'bad_channel'],
    ['GET', `${path}?channel=a*`, 400, 'bad_channel'],
    ['GET', `${path}?channel=%C3%A9`, 400, 'bad_channel'],
    ['GET', `${path}?channel=${LONG}`, 400, 'bad_channel'],
    ['GET', `${path}?channel=a&channel=b%20`, 400, 'bad_channel'],
    ['GET', `${path}?${MANY}`, 400, 'too_many_channels'],
    ['GET', `${path}?channel=a&since=!`, 400, 'bad_cursor'],
    ['GET', `${path}?channel=a&last_event_id=!`, 400, 'bad_cursor'],
    ['GET', `${path}?channel=a&lastEventID=!`, 400, 'bad_cursor'],
    ['GET', `${path}?channel=a&history=-1`, 400, 'bad_history'],
    ['GET', `${path}?channel=a&history=100001`, 400, 'bad_history'],
    ['GET', `${path}?channel=a&history=ten`, 400, 'bad_history'],
    ['GET', `${path}?channel=a&history=1.5`, 400, 'bad_history'],
    ['GET', `${path}?channel=a&history=`, 400, 'bad_history'],
    ['GET', `${path}?channel=a&history=99999999999999999999`, 400, 'bad_history'],
    ['GET', `${path}?channel=%zz`, 400, 'bad_query'],
    ['GET', `${path}?channel=a&x=%`, 400, 'bad_query'],
    ['POST', `${path}?channel=a`, 405, 'method_not_allowed'],
    ['PUT', `${path}?channel=a`, 405, 'method_not_allowed'],
  ]),
  ['GET', '/events?channel=a&format=xml', 400, 'bad_format'],
  ['GET', '/events?channel=a&format=', 400, 'bad_format'],
  ['GET', '/events?channel=a&padding=yes', 400, 'bad_parameter'],
  ['GET', '/poll?channel=a&timeout=-1', 400, 'bad_timeout'],
  ['GET', '/poll?channel=a&timeout=56', 400, 'bad_timeout'],
  ['GET', '/poll?channel=a&timeout=soon', 400, 'bad_timeout'],
  ['GET', '/poll?channel=a&limit=0', 400, 'bad_limit'],
  ['GET', '/poll?channel=a&limit=1001', 400, 'bad_limit'],
  ['GET', '/poll?channel=a&limit=x', 400, 'bad_limit'],
  ['POST', '/publish', 400, 'missing_channel'],
  ['POST', '/publish?channel=', 400, 'bad_channel'],
  ['POST', '/publish?channel=a%0Ab', 400, 'bad_channel'],
  ['POST', `/publish?${MANY}`, 400, 'too_many_channels'],
  ['POST', '/publish?channel=a&event=a%0Ab', 400, 'bad_event'],
  ['GET', '/publish?channel=a', 405, 'method_not_allowed'],
  ['DELETE', '/publish?channel=a', 405, 'method_not_allowed'],
  ['GET', '/api/publish', 405, 'method_not_allowed'],
  ['POST', '/api/publish', 400, 'bad_json'],
  ['GET', '/api/channels/a%20b', 400, 'bad_channel'],
  ['GET', '/api/channels/%zz', 400, 'bad_channel'],
  ['GET', '/api/channels/never', 404, 'not_found'],
  ['POST', '/api/channels/a', 405, 'method_not_allowed'],
  ['GET', '/api/channels/a/history?limit=0', 400, 'bad_limit'],
  ['GET', '/api/channels/a/history?limit=1001', 400, 'bad_limit'],
  ['GET', '/api/channels/a/history?since=!', 400, 'bad_cursor'],
  ['GET', '/api/channels/a/history?reverse=maybe', 400, 'bad_parameter'],
  ['GET', '/api/channels/a%20b/history', 400, 'bad_channel'],
  ['DELETE', '/api/channels/a%20b/history', 400, 'bad_channel'],
  ['POST', '/api/channels/a/history', 405, 'method_not_allowed'],
  ['GET', '/api/channels/a/presence', 404, 'no_presence'],
  ['GET', '/api/channels/chat:a/presence?limit=x', 400, 'bad_limit'],
  ['DELETE', '/api/channels/chat:a/presence', 405, 'method_not_allowed'],
  ['GET', '/api/channels?limit=x', 400, 'bad_limit'],
  ['POST', '/api/channels', 405, 'method_not_allowed'],
  ['POST', '/health', 405, 'method_not_allowed'],
  ['POST', '/ready', 405, 'method_not_allowed'],
  ['POST', '/stats', 405, 'method_not_allowed'],
  ['DELETE', '/metrics', 405, 'method_not_allowed'],
  ['POST', '/', 405, 'method_not_allowed'],
  ['DELETE', '/chat/lobby', 405, 'method_not_allowed'],
  ['GET', '/nope', 404, 'not_found'],
  ['POST', '/nope', 404, 'not_found'],
  ['GET', '/chat/lobby', 426, 'upgrade_required'],
  ['GET', '/ws', 426, 'upgrade_required'],
];

for (const [method, path, status, code] of CASES) {
  test(`${method} ${path.slice(0, 70)} is ${status} ${code}`, async (t) => {
    const server = await startServer(t);
    const answer = await request(server, path, { method, body: method === 'POST' || method === 'PUT' ? '' : undefined });
    assert.equal(answer.status, status, answer.text);
    assert.match(answer.headers['content-type'], /^application\/problem\+json/);
    assert.match(answer.headers.vary, /\bOrigin\b/);
    const problem = answer.json();
    assert.deepEqual(Object.keys(problem), ['type', 'title', 'status', 'code', 'detail']);
    assert.deepEqual([problem.type, problem.status, problem.code], ['about:blank', status, code]);
    assert.ok(problem.title.length > 0 && problem.detail.length > 0, answer.text);
    if (status === 405) assert.match(answer.headers.allow, /^[A-Z]+(, ?[A-Z]+)*$/);
    assert.equal((await get(server, '/health')).status, 200);
  });
}

test('details never carry markup or control bytes of the request', async (t) => {
  const server = await startServer(t);
  for (const channel of ['<script>alert(1)</script>', 'a"b\\c', 'a\u0001b', 'é\u2028']) {
    const answer = await get(server, `/events?channel=${encodeURIComponent(channel)}`);
    assert.equal(answer.json().code, 'bad_channel', 'it is JSON');
    assert.doesNotMatch(answer.text.trim(), /[\x00-\x1f]/);
  }
});

test('HEAD answers like GET, without a body', async (t) => {
  const server = await startServer(t);
  await publish(server, 'a', 'x');
  for (const path of ['/health', '/stats', '/api/channels', '/api/channels/a/history', '/nope']) {
    const [head, full] = [await request(server, path, { method: 'HEAD' }), await get(server, path)];
    assert.equal(head.status, full.status, path);
    assert.equal(head.bytes.length, 0);
  }
});

test('after an error the connection is still good', async (t) => {
  const server = await startServer(t);
  const { rawConnect } = await import('./lib/raw.js');
  const raw = await rawConnect(t, server);
  for (let i = 0; i < 3; i++) {
    raw.send(`GET /events?channel=a%20b HTTP/1.1\r\nHost: ${server.host}\r\n\r\n`);
    assert.equal((await raw.answer()).status, 400);
    raw.send(`GET /health HTTP/1.1\r\nHost: ${server.host}\r\n\r\n`);
    assert.equal((await raw.answer()).status, 200);
  }
});
