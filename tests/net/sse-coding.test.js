// Event streams with a Content-Encoding: who gets which, and that every event can be read at once.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import test from 'node:test';
import { get, publish, publishMany } from './lib/http.js';
import { openHttp2 } from './lib/http2.js';
import { startServer } from './lib/server.js';
import { openSse } from './lib/sse.js';
import { atEnd, until } from './lib/wait.js';

const CODINGS = ['gzip', 'zstd'];
const OVER = {
  'HTTP/1.1': (t, server, parameters, options) => openSse(t, server, parameters, options),
  'HTTP/2': async (t, server, parameters, options) => (await openHttp2(t, server)).events(parameters, options),
};
const accept = (coding) => ({ headers: { 'accept-encoding': coding } });
const JSON_2K = JSON.stringify(Array.from({ length: 40 }, (_, i) => ({ symbol: 'ABC', price: 100 + i, at: '2026-11-21T10:00:00Z' })));

async function codingOf(t, server, value, parameters = { channel: 'a' }) {
  const stream = await openSse(t, server, parameters, value === undefined ? {} : accept(value));
  await stream.ready();
  stream.close();
  assert.equal(stream.head.headers.vary, 'Origin, Accept-Encoding');
  return stream.head.headers['content-encoding'];
}

test('the coding is the one the client weighs most, then the server', async (t) => {
  const server = await startServer(t);
  for (const [value, want] of [
    [undefined, undefined], ['', undefined], ['identity', undefined], ['br', undefined], ['deflate, br', undefined],
    ['gzip', 'gzip'], ['GZIP', 'gzip'], ['x-gzip', 'gzip'], ['zstd', 'zstd'], ['gzip, deflate, br, zstd', 'zstd'], ['gzip,,', 'gzip'],
    ['gzip;q=0.5, zstd;q=0.4', 'gzip'], ['gzip;q=0.4, zstd;q=0.5', 'zstd'], ['gzip; q=0.5 , zstd ;q=0.5', 'zstd'], ['gzip;q=1.000, zstd;q=0.999', 'gzip'],
    ['zstd;q=0, gzip', 'gzip'], ['zstd;q=0.000', undefined], ['gzip;q=0', undefined], ['gzip;q=x', undefined], ['gzip;q=2', undefined],
    ['*', 'zstd'], ['*;q=0', undefined], ['*;q=0.1, zstd;q=0', 'gzip'], ['gzip, *;q=0', 'gzip'], ['zstd;q=0, *', 'gzip'],
    ['identity, gzip', 'gzip'], ['identity;q=1, gzip;q=0.5', undefined], ['identity;q=0, gzip;q=0.1', 'gzip'], ['identity;q=0', undefined], ['identity;q=0, *;q=0', undefined],
  ]) assert.equal(await codingOf(t, server, value), want, `Accept-Encoding: ${value}`);
});

test('--sse-codings says which there are, the best first', async (t) => {
  for (const [flag, want] of [['gzip', 'gzip'], ['gzip,zstd', 'gzip'], ['zstd', 'zstd'], ['none', undefined]]) {
    const server = await startServer(t, ['--sse-codings', flag]);
    assert.equal(await codingOf(t, server, 'zstd, gzip'), want, flag);
  }
});

test('nothing but event streams is coded', async (t) => {
  const server = await startServer(t, ['--max-connections', '2']);
  const headers = { 'Accept-Encoding': 'gzip, zstd', Accept: 'text/event-stream' };
  await publish(server, 'a', JSON_2K);
  for (const path of ['/', '/health', '/metrics', '/poll?channel=a&history=1', '/api/channels/a/history', '/events', '/ws']) {
    const answer = await get(server, path, { headers });
    assert.equal(answer.headers['content-encoding'], undefined, path);
  }
  await Promise.all([openSse(t, server, { channel: 'a' }), openSse(t, server, { channel: 'a' })]);
  const turnedAway = await get(server, '/events?channel=a', { headers });
  assert.deepEqual([turnedAway.status, turnedAway.headers['content-encoding']], [200, undefined]);
  assert.match(turnedAway.text, /^retry: \d+\n\n$/);
});

test('namespaces that are never compressed: a stream of theirs alone has no coding', async (t) => {
  const server = await startServer(t, ['--plain-namespaces', 'bank,mail']);
  assert.equal(await codingOf(t, server, 'gzip', { channel: 'bank:a' }), undefined);
  assert.equal(await codingOf(t, server, 'gzip', { channel: ['bank:a', 'mail:b'] }), undefined);
  assert.equal(await codingOf(t, server, 'gzip', { channel: 'banks:a' }), 'gzip');
  const stream = await openSse(t, server, { channel: ['bank:a', 'b'] }, accept('gzip'));
  await stream.ready();
  for (const [channel, packed] of [['b', true], ['bank:a', false]]) {
    const before = stream.bytes;
    await publish(server, channel, JSON_2K);
    assert.equal((await stream.events.next()).data, JSON_2K);
    assert.equal(stream.bytes - before < JSON_2K.length, packed, channel);
  }
});

test('--pack-threshold: smaller messages are not compressed', async (t) => {
  const server = await startServer(t, ['--pack-threshold', '500']);
  for (const coding of CODINGS) {
    const stream = await openSse(t, server, { channel: 'a' }, accept(coding));
    await stream.ready();
    for (const [size, packed] of [[499, false], [500, true]]) {
      const before = stream.bytes;
      await publish(server, 'a', 'x'.repeat(size));
      await stream.events.next();
      assert.equal(stream.bytes - before < size, packed, `${coding} ${size}`);
    }
  }
});

// What all streams are given, whatever their coding.
const MESSAGES = [
  ['a', 'short'], ['b', ''], ['a', JSON_2K], ['b', 'lines\nand\r\nmore\rof them\n'], ['b', 'ü€😀'.repeat(500)], ['a', 'x'.repeat(60000)],
  ['b', Buffer.from(Array.from({ length: 3000 }, (_, i) => (i * i * 7 + (i >> 3)) & 255)), 'application/octet-stream'],
  ['a', Buffer.from([0xff, 0xfe]), 'application/octet-stream'],
];
const send = (server, [channel, body, type]) => publish(server, channel, body, { event: 'e', ...(type ? { type } : {}) });
const seen = (event) => [event.event, event.data, event.id];

for (const [version, open] of Object.entries(OVER))
  for (const coding of CODINGS)
    for (const format of ['raw', 'json'])
      test(`${coding} over ${version}, ${format}: every event at once, the same as without`, async (t) => {
        const server = await startServer(t, ['--workers', '2', '--sse-keepalive', '1s']);
        const parameters = { channel: ['a', 'b'], format };
        const [plain, coded] = [await open(t, server, parameters), await open(t, server, parameters, accept(coding))];
        assert.equal(coded.head.headers['content-encoding'], coding);
        assert.equal(coded.head.headers['cache-control'], 'no-store, no-transform');
        assert.deepEqual({ ...(await coded.ready()), client: 0 }, { ...(await plain.ready()), client: 0 });
        const text = coded.body.length;
        for (const message of MESSAGES) {
          await send(server, message);
          assert.deepEqual(seen(await coded.events.next()), seen(await plain.events.next()));
        }
        assert.ok(coded.bytes < plain.bytes / 4, `${coded.bytes} of ${plain.bytes} bytes`);
        assert.ok(coded.body.length > text);
        await until(() => coded.items.items.some((i) => i.comment === ''), 'a keep-alive');
      });

for (const coding of CODINGS) {
  test(`${coding}: history, a gap and resuming by the cursor, also to a stream without coding`, async (t) => {
    const server = await startServer(t, ['--history', '3']);
    await publishMany(server, 'a', [JSON_2K, JSON_2K, '3', JSON_2K, '5']);
    const first = await openSse(t, server, { channel: ['a', 'b'], history: 2 }, accept(coding));
    await first.ready();
    assert.deepEqual((await first.events.take(2)).map((e) => e.data), [JSON_2K, '5']);
    const [{ id }] = [await publish(server, 'b', 'b1'), await first.events.next()].slice(1);
    first.close();
    await publish(server, 'a', '6');
    for (const other of [accept(coding), {}]) {
      const again = await openSse(t, server, { channel: ['a', 'b'] }, { headers: { 'Last-Event-ID': id, ...other.headers } });
      await again.ready();
      assert.equal((await again.events.next()).data, '6');
    }
    await publishMany(server, 'a', ['7', '8', '9', '10']);
    const late = await openSse(t, server, { channel: ['a', 'b'], since: id }, accept(coding));
    await late.ready();
    assert.equal((await late.gap()).reason, 'expired');
    assert.deepEqual((await late.events.take(3)).map((e) => e.data), ['8', '9', '10']);
  });

  test(`${coding}: padding, and chat rooms`, async (t) => {
    const server = await startServer(t);
    const padded = await openSse(t, server, { channel: 'a', padding: 1 }, accept(coding));
    await padded.ready();
    assert.match(padded.body, /^: {2048}\n\nretry: \d+\n: crier\n\n/);
    assert.ok(padded.bytes > 2048, 'padding is there to fill buffers on the way');
    const room = await openSse(t, server, {}, { path: '/chat/lobby', ...accept(coding) });
    assert.equal(room.head.headers['content-encoding'], coding);
    await room.ready();
    assert.match(JSON.parse((await room.events.next()).data).message, /^Welcome to room lobby/);
  });
}

for (const [version, open] of Object.entries(OVER)) {
  test(`${version}: a graceful end makes the gzip stream whole, a cut does not`, async (t) => {
    const server = await startServer(t, ['--drain', '2s', '--workers', '2']);
    const streams = [];
    for (const coding of ['gzip', 'zstd', 'gzip']) streams.push(await open(t, server, { channel: ['a', 'b'] }, accept(coding)));
    for (const stream of streams) await stream.ready();
    for (const message of MESSAGES) await send(server, message);
    server.proc.kill('SIGTERM');
    for (const stream of streams) {
      const events = await stream.events.upTo((e) => e.event === 'crier.close', 'crier.close');
      assert.equal(events.length, MESSAGES.length + 1);
      await until(() => stream.whole !== undefined, 'the end of the body');
      assert.equal(stream.whole, true);
    }
    const other = await startServer(t, []);
    const cut = await open(t, other, { channel: 'a' }, accept('gzip'));
    await cut.ready();
    await other.crash();
    await until(() => cut.whole !== undefined, 'the end of the body');
    assert.equal(cut.whole, false);
  });
}

for (const coding of CODINGS)
  test(`${coding}: a client that does not read is told 4001 and its stream is whole`, async (t) => {
    const server = await startServer(t, ['--history', '2000', '--outbox-messages', '20']);
    const stream = await openSse(t, server, { channel: ['a', 'b'] }, accept(coding));
    await stream.ready();
    stream.raw.socket.pause();
    // base64 of noise is packed by a quarter only
    let noise = 1;
    const payload = () => Buffer.from(Uint32Array.from({ length: 11000 }, () => (noise = (Math.imul(noise, 1664525) + 1013904223) >>> 0)).buffer).toString('base64');
    const ids = [];
    for (let i = 0; i < 300; i++) ids.push(await publish(server, i % 2 ? 'a' : 'b', payload()));
    stream.raw.socket.resume();
    const events = await stream.events.upTo((e) => e.event === 'crier.close', 'crier.close');
    const close = JSON.parse(events.pop().data);
    assert.equal(close.code, 4001);
    assert.equal(close.cursor, events.at(-1).id);
    assert.ok(events.length < ids.length, 'it was cut');
    await until(() => stream.whole !== undefined, 'the end of the body');
    assert.equal(stream.whole, true);
  });

test('curl --compressed reads both', async (t) => {
  const server = await startServer(t);
  for (const coding of CODINGS) {
    const curl = spawn('curl', ['-sNk', '--compressed', '-H', `Accept-Encoding: ${coding}`, `${server.origin}/events?channel=a`], { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    curl.stdout.setEncoding('utf8').on('data', (more) => (text += more));
    atEnd(t, () => curl.kill());
    await until(() => text.includes('crier.ready'), () => `crier.ready, not ${text}`);
    await publish(server, 'a', JSON_2K);
    await until(() => text.endsWith(`data: ${JSON_2K}\n\n`), () => `the message, not ${text}`);
  }
});
