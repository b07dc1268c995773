// server.js - the real binary, one process per test: started on a free port, ended with SIGTERM,
// which must give exit code 0 and leave no sanitizer report behind.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { resolve } from 'node:path';
import { tlsEverywhere, useTls } from './dial.js';
import { get } from './http.js';
import { freePort } from './process.js';
import { atEnd, GUARD_MS, guard, until } from './wait.js';

const TESTS = fileURLToPath(new URL('../..', import.meta.url));
export const BIN = resolve(TESTS, process.env.CRIER_BIN || '../build/crier');

const SANITIZER = /(Address|Leak|Thread|Memory|UndefinedBehavior)Sanitizer|runtime error:|event=bug/;

// Nothing of the caller's settings may reach the server.
export function cleanEnv(extra = {}) {
  const env = {};
  for (const name of ['PATH', 'HOME', 'LANG', 'ASAN_OPTIONS', 'LSAN_OPTIONS', 'UBSAN_OPTIONS', 'TSAN_OPTIONS', 'LD_PRELOAD'])
    if (process.env[name] !== undefined) env[name] = process.env[name];
  return { ...env, ...extra };
}

// logfmt: key=value with optionally quoted values.
export function parseLogLine(line) {
  const fields = {};
  for (const [, key, quoted, plain] of line.matchAll(/([\w.]+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))/g))
    fields[key] = quoted !== undefined ? quoted : plain;
  return fields;
}

export class Server {
  constructor(proc) {
    this.proc = proc;
    this.stderr = '';
    this.exit = new Promise((done) => proc.once('close', (code, signal) => done({ code, signal })));
    this.exit.then((how) => (this.exited = how));
    proc.stderr.setEncoding('utf8');
    proc.stderr.on('data', (text) => (this.stderr += text));
    proc.stdout.resume();
  }

  events(name) {
    return this.stderr.split('\n').filter(Boolean).map(parseLogLine).filter((f) => f.event === name);
  }

  async listening() {
    const line = await until(
      () => this.events('listening').find((f) => f.port && f.port !== '0') || (this.exited && 'gone'),
      () => `the server listens; it said:\n${this.stderr}`,
    );
    assert.notEqual(line, 'gone', `the server ended at once: ${JSON.stringify(this.exited)}\n${this.stderr}`);
    this.plainPort = Number(line.port);
    this.talk(this.plainPort);
    return this;
  }

  // Where the tests' clients go from here on.
  talk(port, tls = false) {
    this.port = port;
    this.scheme = tls ? 'https' : 'http';
    this.host = `127.0.0.1:${port}`;
    this.origin = `${this.scheme}://${this.host}`;
    useTls(port, tls);
  }

  url(path) {
    return this.origin + path;
  }
  wsUrl(path) {
    return `${this.scheme === 'https' ? 'wss' : 'ws'}://${this.host}${path}`;
  }

  async stats() {
    return (await get(this, '/stats')).json();
  }

  // Waits until exactly these many connections of a kind are open.
  async connected(counts) {
    let seen;
    await until(async () => {
      seen = (await this.stats()).connections;
      return Object.entries(counts).every(([kind, n]) => seen[kind] === n);
    }, () => `connections are ${JSON.stringify(counts)}, they are ${JSON.stringify(seen)}`);
  }

  terminate() {
    this.proc.kill('SIGTERM');
    return guard(this.exit, () => `the server to end after SIGTERM; it said:\n${this.stderr}`);
  }

  // kill -9: nothing is said to anyone.
  async crash() {
    this.crashed = true;
    this.proc.kill('SIGKILL');
    await this.exit;
  }

  // Ends the server if it still runs; whatever happened, it must have gone well.
  async stop() {
    if (!this.exited && !this.crashed) {
      try {
        await this.terminate();
      } catch (e) {
        this.proc.kill('SIGKILL');
        await this.exit;
        throw e;
      }
    }
    assert.doesNotMatch(this.stderr, SANITIZER, 'a sanitizer or an assertion spoke');
    if (!this.crashed) assert.deepEqual(this.exited, { code: 0, signal: null }, `exit of the server; it said:\n${this.stderr}`);
  }
}

export function spawnCrier(args, env = {}, bin = BIN) {
  return spawn(bin, args, { env: cleanEnv(env), stdio: ['pipe', 'pipe', 'pipe'], cwd: '/' });
}

// `t` is a test context: the server ends with the test. `tls`: the tests' clients go to its TLS port
// (by default when CRIER_TEST_TLS is set); `port` is the one they go to.
export async function startServer(t, flags = [], { port = 0, env = {}, bin = BIN, tls = tlsEverywhere } = {}) {
  const host = flags.includes('--host') ? [] : ['--host', '127.0.0.1'];
  const drain = flags.includes('--drain') ? [] : ['--drain', '2s'];
  const tlsPort = tls && (port || (await freePort()));
  const secure = tls ? ['--tls-port', String(tlsPort), '--tls-cert', tls.cert, '--tls-key', tls.key] : [];
  const server = new Server(spawnCrier(['serve', '--port', String(tls ? 0 : port), ...host, ...drain, ...secure, ...flags], env, bin));
  atEnd(t, () => server.stop());
  await server.listening();
  if (tls) server.talk(tlsPort, true);
  return server;
}

// A command of the binary: everything it wrote, and how it ended.
export async function run(args, { env = {}, input } = {}) {
  const proc = spawnCrier(args, env);
  let stdout = '';
  let stderr = '';
  proc.stdout.setEncoding('utf8').on('data', (d) => (stdout += d));
  proc.stderr.setEncoding('utf8').on('data', (d) => (stderr += d));
  proc.stdin.on('error', () => {});
  proc.stdin.end(input);
  const timer = setTimeout(() => proc.kill('SIGKILL'), GUARD_MS);
  const [code, signal] = await new Promise((done) => proc.once('close', (...how) => done(how)));
  clearTimeout(timer);
  assert.doesNotMatch(stderr, SANITIZER);
  return { code, signal, stdout, stderr };
}
