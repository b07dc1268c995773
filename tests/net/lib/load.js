// load.js - clients that stay and publishers that insist, while something is done to what is
// between them; and the verdict over all of it.

import assert from 'node:assert/strict';
import { judge, judgeAnnounced, Names } from './checker.js';
import { Follower } from './follower.js';
import { numbered } from './http.js';
import { wholeHistory } from './instances.js';
import { Publisher } from './publisher.js';
import { random, SEED } from './random.js';
import { TRANSPORTS } from './transports.js';
import { atEnd, guard, until } from './wait.js';

const FENCE = 'the end';

export class Load {
  // Every client listens to `perClient` of the channels, clients and publishers are spread over the
  // servers; `messages` are published in all, or what comes until stop().
  static async start(t, servers, { channels = 10, clients = 300, perClient = 2, publishers = 12, messages = Infinity, seed = SEED } = {}) {
    const self = new Load();
    Object.assign(self, { servers, messages, names: new Names(), channels: Array.isArray(channels) ? channels : numbered('channel', channels), published: 0, acknowledged: 0, allowed: Infinity, paused: [] });
    const n = self.channels.length;
    self.followers = Array.from({ length: clients }, (_, i) => {
      const mine = Array.from({ length: Math.min(perClient, n) }, (_, k) => self.channels[(i + k * (1 + (i % (n - 1 || 1)))) % n]);
      return new Follower(servers, TRANSPORTS[i % 3], [...new Set(mine)], { home: Math.floor(i / 3), names: self.names });
    });
    self.publishers = Array.from({ length: publishers }, (_, i) => new Publisher(servers, `p${i}`, { home: i, names: self.names }));
    atEnd(t, () => self.abandon());
    for (const follower of self.followers) await follower.connect(5);
    self.following = Promise.all(self.followers.map((f) => f.follow(FENCE)));
    self.publishing = Promise.all(self.publishers.map((p, i) => self.publish(p, random(seed + i))));
    for (const promise of [self.following, self.publishing]) promise.catch((e) => (self.failure = e));
    return self;
  }

  async publish(publisher, rnd) {
    while (this.published < this.messages && !publisher.over) {
      if (this.published >= this.allowed) {
        await new Promise((resolve) => this.paused.push(resolve));
        continue;
      }
      this.published++;
      await publisher.publish(this.channels[Math.floor(rnd() * this.channels.length)]);
      this.acknowledged++;
    }
  }

  // No more than so many messages in all, for now: so that something can be done amid the load
  // however long it takes.
  allow(n) {
    this.allowed = n;
    for (const go of this.paused.splice(0)) go();
  }

  // Waits until n more messages are acknowledged.
  async more(n) {
    return this.reached(this.acknowledged + n);
  }
  async reached(n) {
    await until(() => {
      if (this.failure) throw this.failure;
      return this.acknowledged >= n;
    }, () => `${n} messages are acknowledged, there are ${this.acknowledged}`);
  }

  // No new messages; those on their way are insisted on.
  async stop() {
    this.messages = 0;
    this.allow(Infinity);
    await this.publishing;
  }

  // Until every client has got the last message of each of its channels.
  async finish() {
    await this.publishing;
    for (const channel of this.channels) await this.publishers[0].publish(channel, FENCE);
    // As long as something comes it is not in vain.
    for (let had = -1; had < this.deliveries; ) {
      had = this.deliveries;
      const ended = await guard(this.following, 'the end').then(() => true, (e) => (this.failure ? Promise.reject(e) : false));
      if (ended) return;
    }
    throw new Error(`${this.followers.filter((f) => !f.over).length} clients wait in vain for the last message`);
  }

  async abandon() {
    this.messages = 0;
    this.allow(Infinity);
    for (const publisher of this.publishers) {
      publisher.over = true;
      publisher.close();
    }
    await Promise.all(this.followers.map((f) => f.leave()));
  }

  acknowledgedIds(channel) {
    return this.publishers.flatMap((p) => p.acknowledged.get(channel) ?? []);
  }

  // What every server says of every channel, which must be the same.
  async orders(options) {
    const servers = this.servers.filter((s) => !s.exited);
    const orders = new Map();
    for (const channel of this.channels) {
      const all = await Promise.all(servers.map((server) => wholeHistory(server, channel, options)));
      for (const other of all) assert.deepEqual(other, all[0], `all instances say the same of ${channel}`);
      orders.set(channel, all[0]);
    }
    assert.deepEqual(this.names.conflicts, [], 'no id names two messages');
    return orders;
  }

  // For servers that must lose nothing: {faults} of every client, empty when all is well.
  async complete() {
    const orders = await this.orders();
    for (const [channel, messages] of orders) {
      const ids = messages.map((m) => m.id);
      assert.deepEqual([...ids].sort(), this.acknowledgedIds(channel).sort(), `what is kept of ${channel} is what was acknowledged, once each`);
      for (const { name } of this.publishers) {
        const own = messages.map((m) => m.data).filter((d) => d.startsWith(`${name}.`)).map((d) => Number(d.split('.')[1]));
        assert.deepEqual(own, [...own].sort((a, b) => a - b), `${name} keeps its order`);
      }
    }
    return this.verdict((channel, follower) => {
      const faults = judge(orders.get(channel).map((m) => m.id), follower.ids(channel));
      for (const gap of follower.gaps(channel)) faults.push({ fault: 'gap', gap });
      return faults;
    });
  }

  // For servers that may lose acknowledged messages, but not silently.
  async announced() {
    const orders = await this.orders({ lossy: true });
    this.gaps = 0;
    this.excused = 0;
    this.missed = 0;
    this.lost = 0;
    for (const [channel, messages] of orders) {
      const kept = new Set(messages.map((m) => m.id));
      this.lost += this.acknowledgedIds(channel).filter((id) => !kept.has(id)).length;
    }
    const rank = new Map([...orders].map(([channel, messages]) => [channel, this.names.rank(messages[0].id.slice(0, 4))]));
    return this.verdict((channel, follower) => {
      const { faults, gaps, excused, missed } = judgeAnnounced(orders.get(channel).map((m) => m.id), this.acknowledgedIds(channel), follower.records.get(channel), rank.get(channel));
      this.gaps += gaps;
      this.excused += excused;
      this.missed += missed;
      return faults;
    });
  }

  verdict(judgeOne) {
    const bad = [];
    this.followers.forEach((follower, client) => {
      for (const channel of follower.channels) {
        const faults = judgeOne(channel, follower);
        if (faults.length) bad.push({ client, over: follower.transport, channel, dropped: follower.dropped, n: faults.length, faults: faults.slice(0, 5) });
      }
    });
    return bad;
  }

  assertNone(bad) {
    assert.equal(bad.length, 0, `seed ${SEED}: ${bad.length} records have faults, the first: ${JSON.stringify(bad[0], null, 1)}`);
  }

  // Connections over SSE and WebSocket that broke.
  get broken() {
    return this.followers.filter((f) => f.transport !== 'poll').reduce((n, f) => n + f.dropped, 0);
  }
  get deliveries() {
    return this.followers.reduce((n, f) => n + f.channels.reduce((m, c) => m + f.records.get(c).length, 0), 0);
  }
  get refusals() {
    const sum = {};
    for (const p of this.publishers) for (const [why, n] of p.refusals) sum[why] = (sum[why] ?? 0) + n;
    return sum;
  }
  get slowestPublish() {
    return Math.max(...this.publishers.map((p) => p.slowest));
  }
}
