// process.js - what tests start besides crier: gone with the test, and with the whole test process.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { atEnd, until } from './wait.js';

const running = new Set();
const folders = new Set();

function endAll() {
  for (const proc of running) proc.kill('SIGKILL');
  for (const dir of folders) rmSync(dir, { recursive: true, force: true });
}
process.once('exit', endAll);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
  process.once(signal, () => {
    endAll();
    process.exit(1);
  });

// Node sometimes spins for ever when it cleans up after a test process that has had many children and
// sockets (seen with 20.20: Environment::CleanupHandles, all tests passed). By the time of 'exit' all
// is said and done; the test runner's own listener, which decides about the code, comes before.
let leavesAtOnce = false;
function leaveAtOnce() {
  if (leavesAtOnce) return;
  leavesAtOnce = true;
  process.once('exit', (code) => process.reallyExit(process.exitCode ?? code));
}

// A process that is killed with the test if it still runs then; its output is in `proc.said`.
export function spawnFor(t, command, args, options = {}) {
  const proc = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  leaveAtOnce();
  running.add(proc);
  proc.said = '';
  for (const stream of [proc.stdout, proc.stderr]) stream.setEncoding('utf8').on('data', (d) => (proc.said += d));
  proc.ended = new Promise((resolve) => {
    proc.once('error', (e) => resolve((proc.how = { error: e })));
    proc.once('exit', (code, signal) => resolve((proc.how = { code, signal })));
  });
  proc.ended.then(() => running.delete(proc));
  atEnd(t, async () => {
    proc.kill('SIGKILL'); // also ends one that is stopped
    await proc.ended;
  });
  return proc;
}

export function folderFor(t, name = 'crier-test-') {
  const dir = mkdtempSync(join(tmpdir(), name));
  folders.add(dir);
  atEnd(t, () => {
    rmSync(dir, { recursive: true, force: true });
    folders.delete(dir);
  });
  return dir;
}

// Has SIGSTOP arrived? (kill() answers before.)
export function stopped(proc) {
  return until(() => /^State:\s+T/m.test(readFileSync(`/proc/${proc.pid}/status`, 'utf8')), 'the process is stopped');
}

function isFree(port) {
  return new Promise((resolve) => {
    const probe = net.createServer();
    probe.once('error', () => resolve(false));
    probe.listen({ port, host: '127.0.0.1', exclusive: true }, () => probe.close(() => resolve(true)));
  });
}

// A port that stays ours while nobody listens on it: below the range that the kernel gives to
// outgoing connections, one of which would otherwise take it (or connect to itself) while a server
// is being restarted.
export async function freePort() {
  const [low] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').trim().split(/\s+/).map(Number);
  const bottom = 10000;
  const top = Math.max(Math.min(low, 32768), bottom + 1000);
  for (;;) {
    const port = bottom + Math.floor(Math.random() * (top - bottom));
    if (!given.has(port) && (await isFree(port))) {
      given.add(port);
      return port;
    }
  }
}
const given = new Set();
