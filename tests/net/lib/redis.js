// redis.js - real Redis (or Valkey) servers on free ports, alone, with replicas and sentinels, or as
// a cluster. All of them end with the test, however it ends.
//
// CRIER_TEST_REDIS_SERVER chooses the binary for everything.

import { existsSync, readdirSync, readFileSync, statSync, truncateSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { folderFor, freePort, spawnFor, stopped } from './process.js';
import { Resp } from './resp.js';
import { atEnd, guard, until } from './wait.js';

function onPath(name) {
  return process.env.PATH.split(delimiter).map((dir) => join(dir, name)).find(existsSync);
}

export const REDIS_SERVER = process.env.CRIER_TEST_REDIS_SERVER || onPath('redis-server') || onPath('valkey-server');
// What the tests of the basics run against: the chosen one, or all there are.
export const REDIS_SERVERS = process.env.CRIER_TEST_REDIS_SERVER
  ? [process.env.CRIER_TEST_REDIS_SERVER]
  : [onPath('redis-server'), onPath('valkey-server')].filter(Boolean);

export class Redis {
  constructor(t, options) {
    Object.assign(this, { t, ...options });
    this.host = `127.0.0.1:${this.port}`;
  }

  get url() {
    if (this.unix) return `unix://${this.credentials}${this.unix}`;
    return `${this.tls ? 'rediss' : 'redis'}://${this.credentials}${this.host}`;
  }
  get credentials() {
    return this.password ? `:${encodeURIComponent(this.password)}@` : '';
  }
  get where() {
    if (this.unix) return { path: this.unix };
    return this.tls ? { port: this.tls.plainPort } : { port: this.port };
  }
  get log() {
    return this.proc.said;
  }

  command() {
    const { tls } = this;
    const listen = this.unix
      ? ['--port', '0', '--unixsocket', this.unix]
      : tls
        ? ['--port', tls.plainPort, '--tls-port', this.port, '--tls-cert-file', tls.cert, '--tls-key-file', tls.key, '--tls-ca-cert-file', tls.ca, '--tls-auth-clients', tls.clients ?? 'no']
        : ['--port', this.port];
    return [
      ...(this.config ? [this.config] : []), ...listen, '--bind', '127.0.0.1', '--dir', this.dir, '--daemonize', 'no', '--save', '', '--logfile', '',
      ...(this.aof ? ['--appendonly', 'yes', '--appendfsync', this.aof === true ? 'always' : this.aof] : []),
      ...(this.password ? ['--requirepass', this.password, '--masterauth', this.password] : []), ...this.args,
    ].map(String);
  }

  async start() {
    this.proc = spawnFor(this.t, this.binary, this.command());
    this.link = undefined;
    await until(async () => {
      if (this.proc.how) throw new Error(`${this.binary} ended at once: ${JSON.stringify(this.proc.how)}\n${this.log}`);
      return (await this.cli('PING').catch(() => undefined)) === 'PONG';
    }, () => `${this.binary} answers; it said:\n${this.log}`);
    return this;
  }

  async kill9() {
    this.proc.kill('SIGKILL');
    await guard(this.proc.ended, 'Redis to end');
  }
  // Again on the same port, in the same folder.
  async restart() {
    await this.kill9();
    return this.start();
  }

  // The file that the last writes went to (appendonly).
  get journal() {
    const folder = join(this.dir, 'appendonlydir');
    return join(folder, readdirSync(folder).find((name) => name.endsWith('.incr.aof')));
  }
  // For forgetSince().
  mark() {
    return statSync(this.journal).size;
  }
  // What a crash of the host does to writes that had not reached the disk. Without a mark the last
  // tenth; cut behind a transaction, because Redis 7.0 leaves the beginning of one that was cut
  // within a command in the file, and what it writes next becomes part of that.
  async forgetSince(mark) {
    await this.kill9();
    const bytes = readFileSync(this.journal);
    const end = '*1\r\n$4\r\nEXEC\r\n';
    truncateSync(this.journal, mark ?? bytes.lastIndexOf(end, Math.floor(bytes.length * 0.9)) + end.length);
    await this.restart();
  }

  async pause() {
    this.proc.kill('SIGSTOP');
    await stopped(this.proc);
  }
  resume() {
    this.proc.kill('SIGCONT');
  }

  // One command; rejects with what Redis says when it says -ERR.
  async cli(...args) {
    if (!this.link || this.link.closed) {
      const link = await Resp.connect(this.where, 2000);
      if (this.password) await link.command('AUTH', this.password);
      this.link?.close();
      this.link = link;
    }
    return this.link.command(...args);
  }

  // One section of INFO as an object.
  async info(section) {
    const text = await this.cli('INFO', section);
    return Object.fromEntries(text.split('\r\n').filter((l) => l.includes(':')).map((l) => [l.slice(0, l.indexOf(':')), l.slice(l.indexOf(':') + 1)]));
  }
  // Calls by command name, lower case.
  async commandStats() {
    const info = await this.info('commandstats');
    return Object.fromEntries(Object.entries(info).map(([name, v]) => [name.replace(/^cmdstat_/, ''), Number(/calls=(\d+)/.exec(v)[1])]));
  }
}

export async function startRedis(t, { args = [], port, unix = false, password, aof = false, tls, binary = REDIS_SERVER, config } = {}) {
  if (!binary) throw new Error('redis-server is missing; apt-get install redis-server');
  const dir = folderFor(t);
  const redis = new Redis(t, { args, password, aof, binary, dir, config, unix: unix ? join(dir, 'redis.sock') : undefined });
  redis.port = port ?? (await freePort());
  redis.host = `127.0.0.1:${redis.port}`;
  if (tls) redis.tls = { ...tls, plainPort: await freePort() };
  atEnd(t, () => redis.link?.close());
  return redis.start();
}

// A port on which a Redis can be started later, and its URL now.
export async function redisPlace() {
  const port = await freePort();
  return { port, url: `redis://127.0.0.1:${port}` };
}
