// redis-sentinel.js - a master, its replicas and the sentinels that watch them.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { folderFor, freePort } from './process.js';
import { Redis, REDIS_SERVER, startRedis } from './redis.js';
import { atEnd, until } from './wait.js';

const NAME = 'crier-test';
const DOWN_AFTER_MS = 1000;
const REPLICATION = ['--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1'];

async function startSentinel(t, master, quorum, { password, sentinelPassword, tls }) {
  const dir = folderFor(t);
  const port = await freePort();
  const plainPort = await freePort();
  const config = join(dir, 'sentinel.conf');
  writeFileSync(config, [
    ...(tls
      ? [`port ${plainPort}`, `tls-port ${port}`, `tls-cert-file ${tls.cert}`, `tls-key-file ${tls.key}`, `tls-ca-cert-file ${tls.ca}`, 'tls-auth-clients no', 'tls-replication yes']
      : [`port ${port}`]),
    'bind 127.0.0.1', `dir ${dir}`, 'protected-mode no',
    `sentinel monitor ${NAME} 127.0.0.1 ${master.port} ${quorum}`,
    `sentinel down-after-milliseconds ${NAME} ${DOWN_AFTER_MS}`,
    `sentinel failover-timeout ${NAME} 4000`,
    ...(password ? [`sentinel auth-pass ${NAME} ${password}`] : []),
    ...(sentinelPassword ? [`requirepass ${sentinelPassword}`, `sentinel sentinel-pass ${sentinelPassword}`] : []), ''].join('\n'));
  const sentinel = new Redis(t, { port, dir, config, password: sentinelPassword, tls: tls && { ...tls, plainPort }, args: [], binary: REDIS_SERVER });
  sentinel.command = () => [config, '--sentinel'];
  atEnd(t, () => sentinel.link?.close());
  return sentinel.start();
}

export class Sentinels {
  constructor(servers, sentinels) {
    this.servers = servers;
    this.sentinels = sentinels;
    this.name = NAME;
  }
  get url() {
    const { password: own, tls } = this.sentinels[0];
    return `${tls ? 'rediss' : 'redis'}+sentinel://${this.servers[0].credentials}${this.sentinels.map((s) => s.host).join(',')}/${NAME}${own ? `?sentinel_password=${own}` : ''}`;
  }
  // The port that this sentinel takes for the master's.
  async masterPort(sentinel = this.sentinels[0]) {
    return Number((await sentinel.cli('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', NAME))[1]);
  }
  async master() {
    const port = await this.masterPort();
    return this.servers.find((s) => s.port === port);
  }
  async replicas() {
    const master = await this.master();
    return this.servers.filter((s) => s !== master);
  }
  // Waits until every sentinel names another master than `old`.
  async failedOver(old) {
    await until(async () => {
      const ports = await Promise.all(this.sentinels.map((s) => this.masterPort(s)));
      return ports.every((p) => p === ports[0] && p !== old.port);
    }, 'the sentinels have agreed on another master', 60000);
    return this.master();
  }
  // From now on this replica gets nothing more, and it does not stop being a candidate.
  async cutReplication(replica) {
    const master = await this.master();
    await replica.cli('CONFIG', 'SET', 'masteruser', 'nobody', 'masterauth', 'wrong');
    await master.cli('CLIENT', 'KILL', 'TYPE', 'replica');
    await until(async () => (await replica.info('replication')).master_link_status === 'down', 'the replica is cut off');
  }
  async mendReplication(replica) {
    await replica.cli('CONFIG', 'SET', 'masteruser', '', 'masterauth', '');
  }
  // Until all replicas that are alive follow the present master, and have what it has now.
  async synced() {
    const master = await this.master();
    const n = this.servers.filter((s) => s !== master && !s.proc.how).length;
    const offset = Number((await master.info('replication')).master_repl_offset);
    await until(async () => {
      const info = await master.info('replication');
      const replicas = Object.entries(info).filter(([k]) => /^slave\d/.test(k)).map(([, v]) => v);
      return replicas.length === n && replicas.every((v) => v.includes('state=online') && Number(/offset=(\d+)/.exec(v)[1]) >= offset);
    }, 'the replicas have everything');
  }
}

export async function startSentinels(t, { replicas = 1, sentinels = 3, aof = true, password, sentinelPassword, tls } = {}) {
  const args = [...REPLICATION, ...(tls ? ['--tls-replication', 'yes'] : [])];
  const master = await startRedis(t, { args, aof, password, tls });
  const servers = [master];
  for (let i = 0; i < replicas; i++) servers.push(await startRedis(t, { args: [...args, '--replicaof', '127.0.0.1', master.port], aof, password, tls }));
  const watchers = [];
  for (let i = 0; i < sentinels; i++) watchers.push(await startSentinel(t, master, Math.floor(sentinels / 2) + 1, { password, sentinelPassword, tls }));
  const self = new Sentinels(servers, watchers);
  await until(async () => {
    const seen = await Promise.all(watchers.map((s) => s.cli('SENTINEL', 'MASTER', NAME)));
    return seen.every((m) => m[m.indexOf('num-slaves') + 1] === String(replicas) && m[m.indexOf('num-other-sentinels') + 1] === String(sentinels - 1));
  }, 'the sentinels know each other');
  await self.synced();
  return self;
}
