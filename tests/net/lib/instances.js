// instances.js - crier processes that share a Redis, and how they say that they are ready.

import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { resolve } from 'node:path';
import { get, query, request } from './http.js';
import { cleanEnv, startServer } from './server.js';
import { until } from './wait.js';

export function startInstance(t, redis, flags = [], options = {}) {
  return startServer(t, ['--redis', typeof redis === 'string' ? redis : redis.url, ...flags], options);
}

export const readyStatus = async (server) => (await get(server, '/ready')).status;

export async function untilReady(...servers) {
  for (const server of servers) {
    await until(async () => {
      if (server.exited) throw new Error(`the server ended: ${JSON.stringify(server.exited)}\n${server.stderr}`);
      return (await readyStatus(server)) === 200;
    }, () => `/ready is 200; the server said:\n${server.stderr.slice(-3000)}`);
  }
}

export const untilNotReady = (server, ms) => until(async () => (await readyStatus(server)) === 503, '/ready is 503', ms);

// n of them, ready.
export async function startInstances(t, n, redis, flags = [], options = {}) {
  const servers = await Promise.all(Array.from({ length: n }, () => startInstance(t, redis, flags, options)));
  await untilReady(...servers);
  return servers;
}

// Publishes until it is acknowledged, and gives the answer.
export async function publishSurely(server, channel, body, key = `surely-${Math.random()}`) {
  return until(async () => {
    const answer = await request(server, `/publish?${query({ channel })}`, { method: 'POST', headers: { 'Content-Type': 'text/plain', 'Idempotency-Key': key }, body });
    if (answer.status === 503) return undefined;
    if (answer.status !== 200) throw new Error(`publish answered ${answer.status} ${answer.text}`);
    return answer.json();
  }, 'a publish is acknowledged');
}

// A page of it, asked for until the instance is not away.
async function historySurely(server, channel, parameters) {
  return until(async () => {
    const answer = await get(server, `/api/channels/${encodeURIComponent(channel)}/history?${query(parameters)}`);
    if (answer.status === 503) return undefined;
    if (answer.status !== 200) throw new Error(`history answered ${answer.status} ${answer.text}`);
    return answer.json();
  }, 'a history is answered');
}

// Everything that is kept of a channel, oldest first. A history in which something was lost says so.
export async function wholeHistory(server, channel, { lossy = false } = {}) {
  const messages = [];
  for (let since; ; ) {
    const page = await historySurely(server, channel, { limit: 1000, since });
    if (page.gap && !lossy) throw new Error(`a gap in the history: ${JSON.stringify(page.gap)}`);
    messages.push(...page.messages);
    if (page.complete) return messages;
    since = page.cursor;
  }
}

// Builds the binary once more with other macros, in build/NAME; quiet, and only what has changed.
export function buildVariant(name, ...macros) {
  const root = fileURLToPath(new URL('../../..', import.meta.url));
  const build = `build/${name}`;
  execFileSync('make', ['-s', `BUILD=${build}`, 'FLAVOR=debug', `CPPFLAGS=${macros.map((m) => `-D${m}`).join(' ')}`, `${build}/crier`], {
    cwd: root, env: cleanEnv(process.env.CC ? { CC: process.env.CC } : {}), stdio: ['ignore', 'ignore', 'pipe'],
  });
  return resolve(root, build, 'crier');
}
