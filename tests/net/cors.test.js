// Origins and OPTIONS on every route.

import assert from 'node:assert/strict';
import test from 'node:test';
import { get, publish, request } from './lib/http.js';
import { startServer } from './lib/server.js';
import { openSse } from './lib/sse.js';
import { openWs, refusedWs } from './lib/wsclient.js';

const LIST = 'https://app.example,https://other.example:8443';

// [path, methods of the route, a method and body to try it with]
const ROUTES = [
  ['/events?channel=a', ['GET']],
  ['/poll?channel=a', ['GET']],
  ['/ws', ['GET']],
  ['/chat/lobby', ['GET', 'POST']],
  ['/publish?channel=a', ['POST']],
  ['/api/publish', ['POST']],
  ['/api/channels', ['GET']],
  ['/api/channels/a', ['GET']],
  ['/api/channels/a/history', ['GET', 'DELETE']],
  ['/api/channels/chat:a/presence', ['GET']],
  ['/health', ['GET']],
  ['/ready', ['GET']],
  ['/stats', ['GET']],
  ['/metrics', ['GET']],
  ['/', ['GET']],
];

const PLAIN = ['/poll?channel=a', '/api/channels', '/api/channels/a', '/api/channels/a/history', '/health', '/stats'];

for (const [path, methods] of ROUTES) {
  test(`OPTIONS ${path}`, async (t) => {
    const server = await startServer(t, ['--allowed-origins', LIST]);
    const answer = await request(server, path, {
      method: 'OPTIONS',
      headers: { Origin: 'https://app.example', 'Access-Control-Request-Method': methods[0], 'Access-Control-Request-Headers': 'last-event-id' },
    });
    assert.equal(answer.status, 204);
    assert.equal(answer.text, '');
    assert.equal(answer.headers['access-control-allow-origin'], 'https://app.example');
    const allowed = answer.headers['access-control-allow-methods'].split(/, */);
    for (const method of methods) assert.ok(allowed.includes(method), `${method} in ${allowed}`);
    assert.equal(answer.headers['access-control-allow-headers'], 'Last-Event-ID, Cache-Control, Authorization, Content-Type, Idempotency-Key');
    assert.equal(answer.headers['access-control-max-age'], '600');
    assert.match(answer.headers.vary, /\bOrigin\b/);
  });

  test(`OPTIONS ${path} from elsewhere is refused`, async (t) => {
    const server = await startServer(t, ['--allowed-origins', LIST]);
    const answer = await request(server, path, { method: 'OPTIONS', headers: { Origin: 'https://evil.example', 'Access-Control-Request-Method': 'GET' } });
    assert.deepEqual([answer.status, answer.json().code], [403, 'origin_not_allowed']);
    assert.equal(answer.headers['access-control-allow-origin'], undefined);
    assert.match(answer.headers.vary, /\bOrigin\b/);
  });
}

test('OPTIONS without an origin answers too', async (t) => {
  const server = await startServer(t);
  const answer = await request(server, '/publish?channel=a', { method: 'OPTIONS' });
  assert.equal(answer.status, 204);
  assert.match(answer.headers['access-control-allow-methods'] || answer.headers.allow, /POST/);
});

test('an allowed cross-origin request is told so, with the exact origin', async (t) => {
  const server = await startServer(t, ['--allowed-origins', LIST]);
  await publish(server, 'a', 'x');
  for (const origin of LIST.split(','))
    for (const path of PLAIN) {
      const answer = await get(server, path, { headers: { Origin: origin } });
      assert.equal(answer.status, 200, path);
      assert.equal(answer.headers['access-control-allow-origin'], origin);
      assert.match(answer.headers['access-control-expose-headers'], /\bRetry-After\b/);
      assert.match(answer.headers.vary, /\bOrigin\b/);
    }
  const posted = await request(server, '/publish?channel=a', { method: 'POST', body: 'x', headers: { Origin: 'https://app.example' } });
  assert.equal(posted.headers['access-control-allow-origin'], 'https://app.example');
});

test('an error is readable across origins too', async (t) => {
  const server = await startServer(t, ['--allowed-origins', LIST]);
  for (const path of ['/events', '/poll?channel=a%20b', '/nope', '/api/channels/never']) {
    const answer = await get(server, path, { headers: { Origin: 'https://app.example' } });
    assert.ok(answer.status >= 400);
    assert.equal(answer.headers['access-control-allow-origin'], 'https://app.example', path);
  }
});

test('an event stream across origins', async (t) => {
  const server = await startServer(t, ['--allowed-origins', LIST]);
  const stream = await openSse(t, server, { channel: 'a' }, { headers: { Origin: 'https://app.example' } });
  assert.equal(stream.head.headers['access-control-allow-origin'], 'https://app.example');
  assert.match(stream.head.headers.vary, /\bOrigin\b/);
  await stream.ready();
});

const REFUSED = [
  'https://evil.example', 'null', 'https://app.example.evil.example', 'https://app.exampl', 'http://app.example', 'https://app.example:444',
  'https://app.example/', 'app.example', 'file://', '',
];

for (const origin of REFUSED) {
  test(`origin ${JSON.stringify(origin)} is refused on every transport`, async (t) => {
    const server = await startServer(t, ['--allowed-origins', LIST]);
    for (const [path, methods] of ROUTES) {
      if (path === '/ws' || path.startsWith('/chat')) continue;
      const answer = await request(server, path, { method: methods[0], headers: { Origin: origin }, body: methods[0] === 'POST' ? 'x' : undefined });
      assert.deepEqual([answer.status, answer.json().code], [403, 'origin_not_allowed'], path);
      assert.equal(answer.headers['access-control-allow-origin'], undefined);
    }
    for (const path of ['/ws?channel=a', '/ws?channel=a&format=raw', '/chat/lobby']) {
      const refused = await refusedWs(server, path, { headers: { Origin: origin } });
      assert.deepEqual([refused.status, refused.json().code], [403, 'origin_not_allowed'], path);
    }
    const chat = await request(server, '/chat/lobby', { method: 'POST', headers: { Origin: origin, 'Content-Type': 'application/json' }, body: '{"content":"x"}' });
    assert.equal(chat.status, 403);
    assert.equal((await server.stats()).published, 0);
  });
}

test('the server\'s own origin is served', async (t) => {
  const server = await startServer(t);
  assert.equal((await get(server, '/health', { headers: { Origin: server.origin } })).status, 200);
  await openWs(t, server, '/ws', { headers: { Origin: server.origin } });
  const named = await get(server, '/health', { headers: { Host: 'push.example:99', Origin: 'http://push.example:99' } });
  assert.equal(named.status, 200);
  const otherPort = await get(server, '/health', { headers: { Host: 'push.example:99', Origin: 'http://push.example:98' } });
  assert.equal(otherPort.status, 403);
});

test('on loopback every loopback origin is served', async (t) => {
  const server = await startServer(t);
  for (const origin of ['http://localhost:3000', 'http://127.0.0.1:5173', 'http://localhost', 'http://[::1]:3000', 'https://localhost:3000']) {
    const answer = await get(server, '/health', { headers: { Origin: origin } });
    assert.equal(answer.status, 200, origin);
    assert.equal(answer.headers['access-control-allow-origin'], origin);
    await openWs(t, server, '/ws', { headers: { Origin: origin } });
  }
  for (const origin of ['http://localhost.evil.example', 'http://localhost:3000.evil.example', 'http://evil.example', 'http://127.0.0.1.evil.example:80'])
    assert.equal((await get(server, '/health', { headers: { Origin: origin } })).status, 403, origin);
});

test('beyond loopback a loopback origin is foreign', async (t) => {
  const server = await startServer(t, ['--host', '0.0.0.0', '--insecure']);
  assert.equal((await get(server, '/health', { headers: { Origin: 'http://localhost:3000' } })).status, 403);
  assert.equal((await get(server, '/health', { headers: { Origin: server.origin } })).status, 200);
  assert.equal((await get(server, '/health')).status, 200);
});

test('--allowed-origins * serves all, but null', async (t) => {
  const server = await startServer(t, ['--allowed-origins', '*']);
  const answer = await get(server, '/health', { headers: { Origin: 'https://any.example' } });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers['access-control-allow-origin'], '*');
  await openWs(t, server, '/ws', { headers: { Origin: 'https://any.example' } });
});
