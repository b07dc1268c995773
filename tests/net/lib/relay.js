// relay.js - stands between clients and a server, so that a test can cut connections that neither
// of them would cut.

import net from 'node:net';
import { atEnd } from './wait.js';

export async function startRelay(t, server) {
  const links = new Set();
  const relay = net.createServer((near) => {
    const far = net.connect(server.port, '127.0.0.1');
    links.add(near);
    near.on('error', () => {});
    far.on('error', () => {});
    near.pipe(far).pipe(near);
    near.on('close', () => {
      links.delete(near);
      far.destroy();
    });
    far.on('close', () => near.destroy());
  });
  relay.listen(0, '127.0.0.1');
  await new Promise((done) => relay.once('listening', done));
  const self = {
    origin: `http://127.0.0.1:${relay.address().port}`,
    cut() {
      for (const link of links) link.resetAndDestroy();
    },
  };
  atEnd(t, () => {
    relay.close();
    self.cut();
  });
  return self;
}
