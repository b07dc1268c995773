// tests/tools/with_redis, what `make run REDIS=1` runs: a Redis of its own, which goes with the
// command however that goes, with its folder.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { get, history, publish } from './lib/http.js';
import { BIN, cleanEnv, Server } from './lib/server.js';
import { atEnd, guard, until } from './lib/wait.js';

const WITH_REDIS = fileURLToPath(new URL('../tools/with_redis', import.meta.url));

function temporary(t) {
  const dir = mkdtempSync(join(tmpdir(), 'crier-test-'));
  atEnd(t, () => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

const answers = (path) => new Promise((resolve) => {
  const socket = net.connect(path, () => resolve(true)).on('error', () => resolve(false));
  socket.on('connect', () => socket.destroy());
});

async function start(t) {
  const TMPDIR = temporary(t);
  // Another REDIS_URL or CRIER_REDIS of the caller's is not meant.
  const env = cleanEnv({ TMPDIR, REDIS_URL: 'redis://nowhere.invalid', CRIER_REDIS: 'redis://nowhere.invalid' });
  const server = new Server(spawn(WITH_REDIS, [BIN, 'serve', '--port', '0', '--host', '127.0.0.1', '--drain', '2s'], { env }));
  atEnd(t, () => server.stop());
  await server.listening();
  server.socket = server.events('bus')[0].url.replace('unix://', '');
  server.gone = () => until(async () => readdirSync(TMPDIR).length === 0 && !(await answers(server.socket)), 'Redis and its folder are gone');
  return server;
}

for (const [how, end] of [
  ['SIGINT', (server) => server.proc.kill('SIGINT')],
  ['SIGTERM', (server) => server.proc.kill('SIGTERM')],
  ['kill -9', (server) => server.crash()],
]) {
  test(`Redis is there for the server, and goes with it by ${how}`, async (t) => {
    const server = await start(t);
    assert.equal(statSync(dirname(server.socket)).mode & 0o777, 0o700, 'nobody else reaches it');
    await until(async () => (await get(server, '/ready')).status === 200, '/ready is 200');
    const id = await publish(server, 'a', 'x');
    assert.deepEqual((await history(server, 'a')).messages.map((m) => m.id), [id]);
    assert.ok(await answers(server.socket));
    await end(server);
    await guard(server.exit, 'the end');
    await server.gone();
  });
}

test('a Redis that does not start is said, and nothing is left', async (t) => {
  const TMPDIR = temporary(t);
  const bin = temporary(t);
  const proc = spawn('sh', ['-c', 'printf "#!/bin/sh\\necho no luck today; exit 1\\n" >"$0/redis-server" && chmod +x "$0/redis-server" && PATH="$0:$PATH" exec "$1" echo started', bin, WITH_REDIS], { env: cleanEnv({ TMPDIR }) });
  let said = '';
  for (const stream of [proc.stdout, proc.stderr]) stream.setEncoding('utf8').on('data', (d) => (said += d));
  const code = await guard(new Promise((resolve) => proc.once('close', resolve)), 'the end');
  assert.equal(code, 1);
  assert.match(said, /Redis.*\n.*no luck today/);
  assert.doesNotMatch(said, /started/);
  assert.deepEqual(readdirSync(TMPDIR), []);
});
