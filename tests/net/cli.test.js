// crier serve, publish, subscribe, version, help.

import assert from 'node:assert/strict';
import net from 'node:net';
import test from 'node:test';
import { makeCertificates } from './lib/certs.js';
import { get, history, numbered, publish, publishMany } from './lib/http.js';
import { freePort } from './lib/process.js';
import { startRelay } from './lib/relay.js';
import { parseLogLine, run, Server, spawnCrier, startServer } from './lib/server.js';
import { atEnd, guard, Queue, until } from './lib/wait.js';

// A running `crier subscribe`: its lines, its stderr, its end.
function subscribe(t, args, env) {
  const proc = spawnCrier(['subscribe', ...args], env);
  const self = { proc, stderr: '', lines: new Queue('crier subscribe') };
  let text = '';
  proc.stdout.setEncoding('utf8').on('data', (d) => {
    text += d;
    const lines = text.split('\n');
    text = lines.pop();
    for (const line of lines) self.lines.push(line);
  });
  proc.stderr.setEncoding('utf8').on('data', (d) => (self.stderr += d));
  self.exit = new Promise((done) => proc.once('close', (code, signal) => done({ code, signal })));
  self.exit.then(() => self.lines.end(new Error(`crier subscribe ended: ${self.stderr}`)));
  atEnd(t, () => {
    proc.kill('SIGKILL');
    return self.exit;
  });
  return self;
}

const listeners = (server, channel, n) =>
  until(async () => {
    const answer = await get(server, `/api/channels/${encodeURIComponent(channel)}`);
    return (answer.status === 200 ? answer.json().subscribers : 0) === n;
  }, `${n} listen to ${channel}`);

test('version prints one line', async () => {
  const { code, stdout, stderr } = await run(['version']);
  assert.deepEqual([code, stderr], [0, '']);
  assert.match(stdout, /^crier \d+\.\d+\.\d+\n$/);
});

test('help lists every command, and the options of each', async () => {
  const all = await run(['help']);
  assert.equal(all.code, 0);
  for (const command of ['serve', 'publish', 'subscribe', 'version', 'help']) {
    assert.match(all.stdout, new RegExp(`crier ${command}\\b`));
    const one = await run(['help', command]);
    assert.equal(one.code, 0);
    assert.match(one.stdout, new RegExp(`^usage: crier ${command}\\b`));
  }
  for (const command of ['serve', 'publish', 'subscribe']) {
    const asked = await run([command, '--help']);
    assert.deepEqual([asked.code, asked.stdout], [0, (await run(['help', command])).stdout]);
  }
  assert.equal((await run(['--help'])).code, 0);
  assert.match((await run(['--version'])).stdout, /^crier /);
});

test('no command and an unknown command are usage errors', async () => {
  for (const args of [[], ['dance'], ['help', 'dance']]) {
    const { code, stdout, stderr } = await run(args);
    assert.equal(code, 2, args.join(' '));
    assert.equal(stdout, '');
    assert.match(stderr, /crier/);
  }
});

for (const [args, words] of [
  [['--prot', '1'], /prot/],
  [['--port', 'x'], /port.*x/],
  [['--port', '65536'], /port.*65536/],
  [['--port'], /port/],
  [['--workers', '-1'], /workers.*-1/],
  [['--drain', 'soon'], /drain.*soon/],
  [['--max-message', '0'], /max-message/],
  [['--log-level', 'loud'], /log-level.*loud/],
  [['--allowed-origins', 'https://a.example/'], /allowed-origins/],
  [['surplus'], /surplus/],
]) {
  test(`serve ${args.join(' ')} stops with what is wrong`, async () => {
    const { code, stderr } = await run(['serve', ...args]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, words);
  });
}

test('a bad environment variable is named', async () => {
  const { code, stderr } = await run(['serve'], { env: { CRIER_DRAIN: 'soon' } });
  assert.equal(code, 2);
  assert.match(stderr, /CRIER_DRAIN.*soon/);
});

test('beyond loopback it does not serve without --insecure', async () => {
  const { code, stderr } = await run(['serve', '--port', '0', '--host', '0.0.0.0']);
  assert.ok(code === 1 || code === 2, `${code}`);
  assert.match(stderr, /insecure/);
});

test('a port that is taken is said', async (t) => {
  const taken = net.createServer().listen(0, '127.0.0.1');
  await new Promise((done) => taken.once('listening', done));
  atEnd(t, () => taken.close());
  const { code, stderr } = await run(['serve', '--host', '127.0.0.1', '--port', String(taken.address().port)]);
  assert.equal(code, 1, stderr);
  assert.match(stderr, new RegExp(`${taken.address().port}`));
});

test('the port: flag before CRIER_PORT before PORT', async (t) => {
  const [a, b, c] = [await freePort(), await freePort(), await freePort()];
  for (const [flags, env, expected] of [
    [[], { PORT: String(a) }, a],
    [[], { PORT: String(a), CRIER_PORT: String(b) }, b],
    [['--port', String(c)], { PORT: String(a), CRIER_PORT: String(b) }, c],
    [[`--port=${c}`], {}, c],
  ]) {
    const server = new Server(spawnCrier(['serve', '--host', '127.0.0.1', ...flags], env));
    atEnd(t, () => server.stop());
    assert.equal((await server.listening()).port, expected);
    await server.stop();
  }
});

test('localhost means every loopback address', async (t) => {
  const port = await freePort();
  const server = new Server(spawnCrier(['serve', '--port', String(port)]));
  atEnd(t, () => server.stop());
  await server.listening();
  assert.equal((await get(server, '/health')).status, 200);
  const hosts = server.events('listening').map((f) => f.host);
  assert.ok(hosts.some((h) => /127\.0\.0\.1|localhost/.test(h)), JSON.stringify(hosts));
});

test('the log is logfmt, and says the descriptors with the client count they allow', async (t) => {
  const server = await startServer(t);
  for (const line of server.stderr.trim().split('\n')) {
    const f = parseLogLine(line);
    assert.match(f.time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/, line);
    assert.match(f.level, /^(error|warn|info|debug)$/, line);
    assert.ok(f.event, line);
  }
  assert.ok(server.stderr.split('\n').map(parseLogLine).some((f) => Number(f.clients || f.max_clients || f.connections || f.max_connections) > 0), server.stderr);
});

test('publish prints the cursor', async (t) => {
  const server = await startServer(t);
  const { code, stdout, stderr } = await run(['publish', '--url', server.origin, 'news', 'hello world'], {});
  assert.deepEqual([code, stderr], [0, '']);
  const { messages } = await history(server, 'news');
  assert.deepEqual(messages.map((m) => [m.data, m.id]), [['hello world', stdout.trim()]]);
});

test('publish: JSON, event, key, stdin, environment', async (t) => {
  const server = await startServer(t);
  const env = { PORT: String(server.port) };
  const go = async (args, input) => {
    const { code, stdout, stderr } = await run(['publish', ...args], { env, input });
    assert.equal(code, 0, stderr);
    return stdout.trim();
  };
  await go(['a', '{"x": 1}', '--event', 'tick']);
  const first = await go(['--key', 'k', 'a', 'once']);
  assert.equal(await go(['--key=k', 'a', 'once']), first);
  await go(['a', '-'], 'from stdin\n');
  await go(['a', '-'], Buffer.from([0, 255]));
  await go(['--content-type', 'text/plain', 'a', '[1]']);
  await go(['a', '--', '--dashes']);
  await go(['--url', `http://127.0.0.1:${server.port}/`, 'ns:ä+b&c'.replace('ä', 'a'), 'x'].map((v) => v.replace('&', '@')));
  const { messages } = await history(server, 'a');
  assert.deepEqual(messages.map((m) => m.data), [{ x: 1 }, 'once', 'from stdin\n', 'AP8=', '[1]', '--dashes']);
  assert.equal(messages[0].event, 'tick');
  assert.equal((await history(server, 'ns:a+b@c')).messages.length, 1);
});

test('publish says what the server refused, with exit code 1', async (t) => {
  const server = await startServer(t);
  const refused = await run(['publish', '--url', server.origin, 'a b', 'x']);
  assert.deepEqual([refused.code, refused.stdout], [1, '']);
  assert.match(refused.stderr, /bad_channel/);
  const away = await run(['publish', '--url', `http://127.0.0.1:${await freePort()}`, 'a', 'x']);
  assert.equal(away.code, 1);
  assert.ok(away.stderr.length > 0);
  for (const args of [[], ['a'], ['a', 'b', 'c'], ['--dance', 'a', 'b']]) assert.equal((await run(['publish', ...args])).code, 2);
});

for (const transport of ['sse', 'ws', 'poll']) {
  test(`subscribe over ${transport} prints payloads as they come`, async (t) => {
    const server = await startServer(t);
    const sub = subscribe(t, ['--url', server.origin, '--transport', transport, 'a', 'b/c']);
    await listeners(server, 'b/c', 1);
    // One by one: the order is each channel's own, and a poll gives channel after channel.
    for (const [channel, message, line, options] of [
      ['a', 'hello', 'hello'], ['b/c', '{"x":\n [1]}', '{"x":  [1]}', { type: 'application/json' }], ['a', 'Grüße', 'Grüße'],
    ]) {
      await publish(server, channel, message, options);
      assert.equal(await sub.lines.next(), line);
    }
    sub.proc.kill('SIGINT');
    assert.deepEqual(await guard(sub.exit, 'the end'), { code: 0, signal: null });
    await listeners(server, 'a', 0);
  });

  test(`subscribe over ${transport}: history, since, count, json`, async (t) => {
    const server = await startServer(t);
    const ids = await publishMany(server, 'a', numbered('m', 5));
    const last = await run(['subscribe', '--url', server.origin, '--transport', transport, '--history', '2', '--count', '2', 'a']);
    assert.deepEqual([last.code, last.stdout], [0, 'm3\nm4\n']);
    const since = await run(['subscribe', '--url', server.origin, '--transport', transport, '--since', ids[2], '--count', '2', '--format', 'json', 'a']);
    assert.equal(since.code, 0, since.stderr);
    const envelopes = since.stdout.trim().split('\n').map((l) => JSON.parse(l));
    assert.deepEqual(envelopes.map((m) => [m.id, m.data]), [[ids[3], 'm3'], [ids[4], 'm4']]);
    assert.deepEqual(Object.keys(envelopes[0]), ['channel', 'id', 'data', 'time']);
  });

  test(`subscribe over ${transport} says a gap`, async (t) => {
    const server = await startServer(t, ['--history', '2']);
    const ids = await publishMany(server, 'a', numbered('m', 5));
    const { code, stdout, stderr } = await run(['subscribe', '--url', server.origin, '--transport', transport, '--since', ids[0], '--count', '2', 'a']);
    assert.deepEqual([code, stdout], [0, 'm3\nm4\n']);
    assert.match(stderr, /gap in a \(expired\)/);
  });

  test(`subscribe over ${transport} comes back after a restart and goes on, saying the gap`, async (t) => {
    const first = await startServer(t, ['--sse-retry', '200ms']);
    const sub = subscribe(t, ['--url', first.origin, '--transport', transport, 'a']);
    await listeners(first, 'a', 1);
    await publish(first, 'a', 'one');
    assert.equal(await sub.lines.next(), 'one');
    await first.stop();
    const second = await startServer(t, ['--sse-retry', '200ms'], { port: first.port });
    await publish(second, 'a', 'two');
    assert.equal(await sub.lines.next(), 'two');
    await until(() => /gap in a \(epoch\)/.test(sub.stderr), () => `it says the gap: ${sub.stderr}`);
    await publish(second, 'a', 'three');
    assert.equal(await sub.lines.next(), 'three');
  });

  test(`subscribe over ${transport} to a bad channel fails with the reason`, async (t) => {
    const server = await startServer(t);
    const { code, stderr } = await run(['subscribe', '--url', server.origin, '--transport', transport, 'a b']);
    assert.equal(code, 1, stderr);
    assert.match(stderr, /bad_channel/);
  });
}

test('subscribe resumes where it was when only the connection is lost', async (t) => {
  const server = await startServer(t);
  const relay = await startRelay(t, server);
  for (const transport of ['sse', 'ws', 'poll']) {
    const channel = `over-${transport}`;
    const sub = subscribe(t, ['--url', relay.origin, '--transport', transport, channel]);
    await listeners(server, channel, 1);
    await publish(server, channel, '1');
    assert.equal(await sub.lines.next(), '1');
    relay.cut();
    await publishMany(server, channel, ['2', '3']);
    assert.deepEqual(await sub.lines.take(2), ['2', '3']);
    assert.doesNotMatch(sub.stderr, /gap in/);
    sub.proc.kill('SIGTERM');
    assert.equal((await guard(sub.exit, 'the end')).code, 0);
  }
});

test('subscribe: usage errors, and a server that is not there', async () => {
  for (const args of [[], ['--transport', 'pigeon', 'a'], ['--count', '0', 'a'], ['--history', 'x', 'a'], ['--format', 'xml', 'a'], ['--url', 'nonsense', 'a']])
    assert.equal((await run(['subscribe', ...args])).code, 2, args.join(' '));
  for (const transport of ['sse', 'ws', 'poll']) {
    const { code, stderr } = await run(['subscribe', '--url', `http://127.0.0.1:${await freePort()}`, '--transport', transport, 'a']);
    assert.equal(code, 1);
    assert.ok(stderr.length > 0);
  }
});

test('curl listens and publishes as in the README', async (t) => {
  const { spawn, spawnSync } = await import('node:child_process');
  if (spawnSync('curl', ['--version']).error) return t.skip('no curl here');
  const server = await startServer(t);
  const listener = spawn('curl', ['-sN', `${server.origin}/events?channel=news`]);
  atEnd(t, () => listener.kill('SIGKILL'));
  let text = '';
  listener.stdout.setEncoding('utf8').on('data', (d) => (text += d));
  await until(() => text.includes('crier.ready'), 'curl sees the first bytes');
  const posted = spawn('curl', ['-s', '-d', 'hello', `${server.origin}/publish?channel=news`]);
  await new Promise((done) => posted.once('close', done));
  await until(() => /\ndata: hello\n\n$/.test(text), () => `curl sees the message: ${text}`);
});

test('over https: --ca or CRIER_CA says whom to trust, and nobody else is', async (t) => {
  const certs = makeCertificates(t);
  const tlsPort = await freePort();
  const server = await startServer(t, ['--tls-port', String(tlsPort), '--tls-cert', certs.cert, '--tls-key', certs.key]);
  const url = ['--url', `https://localhost:${tlsPort}`];
  for (const transport of ['sse', 'ws', 'poll']) {
    const sub = subscribe(t, [...url, '--ca', certs.ca, '--transport', transport, '--count', '1', transport]);
    await listeners(server, transport, 1);
    const { code, stderr } = await run(['publish', ...url, transport, 'safely'], { env: { CRIER_CA: certs.ca } });
    assert.equal(code, 0, stderr);
    assert.equal(await sub.lines.next(), 'safely');
    assert.equal((await guard(sub.exit, 'its end')).code, 0);
    for (const args of [['publish', ...url, '--ca', certs.strangerCa, 'a', 'x'], ['subscribe', ...url, '--transport', transport, 'a']]) {
      const refused = await run(args);
      assert.equal(refused.code, 1);
      assert.match(refused.stderr, /certificate/);
    }
  }
});
