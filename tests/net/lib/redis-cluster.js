// redis-cluster.js - a Redis Cluster put together by commands, and moving slots between its nodes.

import { freePort } from './process.js';
import { startRedis } from './redis.js';
import { until } from './wait.js';

const SLOTS = 16384;
const NODE_TIMEOUT_MS = 2000;

// CRC-16/XMODEM, as the cluster specification says.
function crc16(bytes) {
  let crc = 0;
  for (const b of bytes) {
    crc ^= b << 8;
    for (let i = 0; i < 8; i++) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : (crc << 1) & 0xffff;
  }
  return crc;
}

// A key's slot; of a channel's keys when only the channel is given as hash tag.
export function slotOf(key) {
  const open = key.indexOf('{');
  const close = open < 0 ? -1 : key.indexOf('}', open + 1);
  return crc16(Buffer.from(close > open + 1 ? key.slice(open + 1, close) : key)) % SLOTS;
}

async function startNode(t, { aof, tls, password }) {
  const busPort = await freePort();
  const node = await startRedis(t, {
    aof, tls, password,
    args: ['--cluster-enabled', 'yes', '--cluster-config-file', 'nodes.conf', '--cluster-node-timeout', NODE_TIMEOUT_MS, '--cluster-port', busPort,
      '--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1', '--cluster-replica-validity-factor', '0',
      ...(tls ? ['--tls-cluster', 'yes', '--tls-replication', 'yes'] : [])],
  });
  node.busPort = busPort;
  node.id = await node.cli('CLUSTER', 'MYID');
  return node;
}

export class Cluster {
  constructor(masters, replicas) {
    this.masters = masters;
    this.replicas = replicas;
  }
  get nodes() {
    return [...this.masters, ...this.replicas];
  }
  get url() {
    const [{ tls, credentials }] = this.masters;
    return `${tls ? 'rediss' : 'redis'}+cluster://${credentials}${this.nodes.map((n) => n.host).join(',')}`;
  }
  alive() {
    return this.nodes.filter((n) => !n.proc.how);
  }
  // Which node serves this slot, as `witness` sees it.
  async ownerOf(slot, witness = this.alive()[0]) {
    for (const [from, to, [, , id]] of await witness.cli('CLUSTER', 'SLOTS')) if (slot >= from && slot <= to) return this.nodes.find((n) => n.id === id);
    return undefined;
  }

  // Moves a slot with its keys, in the steps that redis-cli --cluster reshard takes, ten keys at a
  // time. `midway` is awaited twice: when the slot is open on both sides and no key has moved, and
  // when all have and the slot has not. (While one key of a channel is here and the other there,
  // a Cluster refuses every command that needs both.)
  async moveSlot(slot, from, to, { midway = () => {} } = {}) {
    await to.cli('CLUSTER', 'SETSLOT', slot, 'IMPORTING', from.id);
    await from.cli('CLUSTER', 'SETSLOT', slot, 'MIGRATING', to.id);
    let moved = 0;
    await midway();
    for (;;) {
      const keys = await from.cli('CLUSTER', 'GETKEYSINSLOT', slot, 10);
      if (!keys.length) break;
      await from.cli('MIGRATE', '127.0.0.1', to.port, '', 0, 5000, 'REPLACE', 'KEYS', ...keys);
      moved += keys.length;
    }
    await midway();
    await to.cli('CLUSTER', 'SETSLOT', slot, 'NODE', to.id);
    await from.cli('CLUSTER', 'SETSLOT', slot, 'NODE', to.id);
    for (const node of this.masters) if (node !== from && node !== to && !node.proc.how) await node.cli('CLUSTER', 'SETSLOT', slot, 'NODE', to.id);
    return moved;
  }
}

export async function startCluster(t, n = 3, replicas = 0, { aof = true, tls, password } = {}) {
  const masters = [];
  for (let i = 0; i < n; i++) masters.push(await startNode(t, { aof, tls, password }));
  for (const [i, node] of masters.entries()) {
    await node.cli('CLUSTER', 'SET-CONFIG-EPOCH', i + 1);
    await node.cli('CLUSTER', 'ADDSLOTSRANGE', Math.floor((i * SLOTS) / n), Math.floor(((i + 1) * SLOTS) / n) - 1);
  }
  const slaves = [];
  for (let i = 0; i < replicas; i++) slaves.push(await startNode(t, { aof, tls, password }));
  const all = [...masters, ...slaves];
  for (const node of all.slice(1)) await node.cli('CLUSTER', 'MEET', '127.0.0.1', masters[0].port, masters[0].busPort);
  const known = async (node) => (await node.cli('CLUSTER', 'NODES')).trim().split('\n').filter((l) => !/handshake/.test(l)).length === all.length;
  await until(async () => (await Promise.all(all.map(known))).every(Boolean), 'the nodes know each other');
  for (const [i, node] of slaves.entries()) await until(() => node.cli('CLUSTER', 'REPLICATE', masters[i % n].id).then(() => true, () => false), 'a replica has its master');
  const fine = async (node) => {
    const state = await node.cli('CLUSTER', 'INFO');
    return /cluster_state:ok/.test(state) && (await node.cli('CLUSTER', 'SLOTS')).length === n;
  };
  await until(async () => (await Promise.all(all.map(fine))).every(Boolean), 'the cluster is whole');
  for (const node of slaves) await until(async () => (await node.info('replication')).master_link_status === 'up', 'a replica follows');
  return new Cluster(masters, slaves);
}
