// relay.js - stands between clients and a server, so that a test can cut connections that neither
// of them would cut, and stall them: sockets stay open, and nothing gets through any more.
//
// `which` picks connections by what is known of them: {subscribes} is true once a client sent a
// Redis SUBSCRIBE on it. A stall also holds connections that fit later, until restore().

import net from 'node:net';
import { atEnd } from './wait.js';

const SUBSCRIBE = /\r\nS?SUBSCRIBE\r\n/i;
const EVERY = () => true;
export const SUBSCRIBERS = (link) => link.subscribes;
export const COMMANDS = (link) => !link.subscribes;

class Link {
  constructor(relay, near, far) {
    Object.assign(this, { relay, near, far, subscribes: false, last: '', held: false, waiting: [] });
    const end = () => {
      relay.links.delete(this);
      near.destroy();
      far.destroy();
    };
    for (const [from, to] of [[near, far], [far, near]]) {
      from.on('error', () => {});
      from.on('close', end);
      from.on('end', () => this.pass(to, null));
      from.on('data', (bytes) => {
        if (from === near) this.look(bytes);
        this.pass(to, bytes);
      });
      to.on('drain', () => this.held || from.resume());
    }
  }

  look(bytes) {
    if (this.subscribes) return;
    // The word may lie across two reads.
    const text = this.last + bytes.toString('latin1');
    this.subscribes = SUBSCRIBE.test(text);
    this.last = text.slice(-24);
    if (this.relay.stalled && this.relay.stalled(this)) this.hold();
  }

  pass(to, bytes) {
    if (this.held) this.waiting.push([to, bytes]);
    else if (bytes === null) to.end();
    else if (!to.write(bytes)) (to === this.far ? this.near : this.far).pause();
  }

  hold() {
    this.held = true;
    this.near.pause();
    this.far.pause();
  }

  release() {
    this.held = false;
    for (const [to, bytes] of this.waiting.splice(0)) this.pass(to, bytes);
    this.near.resume();
    this.far.resume();
  }

  cut() {
    this.near.resetAndDestroy();
    this.far.resetAndDestroy();
  }
}

class Relay {
  constructor(target) {
    this.target = target;
    this.links = new Set();
    this.stalled = null;
    this.server = net.createServer((near) => {
      const far = net.connect(this.target.unix ? { path: this.target.unix } : { port: this.target.port, host: '127.0.0.1' });
      near.setNoDelay(true);
      far.setNoDelay(true);
      const link = new Link(this, near, far);
      this.links.add(link);
      if (this.stalled && this.stalled(link)) link.hold();
    });
  }

  get port() {
    return this.server.address().port;
  }
  get origin() {
    return `${this.target.scheme ?? 'http'}://127.0.0.1:${this.port}`;
  }
  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  chosen(which) {
    return [...this.links].filter(which);
  }
  // Resets the connections; gives how many there were.
  cut(which = EVERY) {
    const links = this.chosen(which);
    for (const link of links) link.cut();
    return links.length;
  }
  stall(which = EVERY) {
    this.stalled = which;
    const links = this.chosen(which);
    for (const link of links) link.hold();
    return links.length;
  }
  restore() {
    this.stalled = null;
    for (const link of this.links) if (link.held) link.release();
  }
}

export async function startRelay(t, target) {
  const relay = new Relay(target);
  relay.server.listen(0, '127.0.0.1');
  await new Promise((done) => relay.server.once('listening', done));
  atEnd(t, () => {
    relay.server.close();
    relay.cut();
  });
  return relay;
}
