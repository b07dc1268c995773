// pipe.js - the bytes of one WebSocket over what carries them: a TCP connection, a TLS session, a
// stream of HTTP/2. A write is a segment, a record or a DATA frame of its own.
//
// A pipe is told of bytes, of the peer's orderly end (FIN, close_notify, END_STREAM) and of anything
// else that ends it, which is a failure.

import http2 from 'node:http2';
import net from 'node:net';
import tls from 'node:tls';
import { guard } from '../wait.js';
import { acceptOf, upgradeRequest } from '../wsraw.js';

class Pipe {
  constructor(stream) {
    this.stream = stream;
    this.early = []; // what came before somebody listened
    stream.on('data', (bytes) => (this.listener ? this.listener.bytes(bytes) : this.early.push(bytes)));
    stream.on('end', () => this.over('end'));
    stream.on('error', (e) => this.over(e.message));
    stream.on('close', () => {
      this.over('cut off without an orderly end');
      this.closed?.();
    });
  }

  over(how) {
    this.how ??= how;
    this.listener?.over(this.how);
  }

  listen(listener) {
    this.listener = listener;
    for (const bytes of this.early.splice(0)) listener.bytes(bytes);
    if (this.how) listener.over(this.how);
  }

  // Resolves when the bytes have left this process.
  write(bytes) {
    return new Promise((resolve) => this.stream.write(bytes, resolve));
  }

  // Our own end, after the peer's; then all must be over, without a reset.
  async finish() {
    const gone = new Promise((resolve) => (this.stream.closed || this.stream.destroyed ? resolve() : (this.closed = resolve)));
    this.stream.end();
    await guard(gone, 'the connection to be over');
    if (this.how !== 'end') throw new Error(`the connection ended with: ${this.how}`);
    if (this.stream.rstCode) throw new Error(`the stream was reset with ${this.stream.rstCode}`);
  }

  destroy() {
    this.stream.destroy();
  }
}

async function upgraded(socket, server, path, fields) {
  const pipe = new Pipe(socket);
  socket.setNoDelay(true);
  await pipe.write(upgradeRequest({ host: `127.0.0.1:${socket.remotePort ?? server.plainPort}` }, path, fields));
  const head = await guard(
    new Promise((resolve, reject) => {
      let got = Buffer.alloc(0);
      pipe.listen({
        bytes(bytes) {
          got = Buffer.concat([got, bytes]);
          const end = got.indexOf('\r\n\r\n');
          if (end < 0) return;
          pipe.listener = null;
          if (got.length > end + 4) pipe.early.push(got.subarray(end + 4));
          resolve(got.toString('latin1', 0, end));
        },
        over: (how) => reject(new Error(`no upgrade: ${how}`)),
      });
    }),
    'the answer to the upgrade',
  );
  if (!head.startsWith('HTTP/1.1 101 ') || !head.includes(acceptOf())) throw new Error(`no upgrade: ${head}`);
  pipe.extensions = /^sec-websocket-extensions: *(.*)$/im.exec(head)?.[1];
  return pipe;
}

function connected(socket, event) {
  return guard(new Promise((resolve, reject) => socket.once(event, () => resolve(socket)).once('error', reject)), 'a connection');
}

async function overTcp(server, path, fields) {
  return upgraded(await connected(net.connect({ host: '127.0.0.1', port: server.plainPort, allowHalfOpen: true }), 'connect'), server, path, fields);
}

async function overTls(server, path, fields) {
  const tcp = net.connect({ host: '127.0.0.1', port: server.tlsPort, allowHalfOpen: true });
  const socket = tls.connect({ socket: tcp, ca: server.ca, servername: 'localhost', allowHalfOpen: true });
  tcp.on('error', (e) => socket.destroy(e));
  return upgraded(await connected(socket, 'secureConnect'), server, path, fields);
}

// One connection for all streams of a test.
const sessions = new WeakMap();
function sessionWith(server) {
  if (sessions.has(server)) return sessions.get(server);
  // Node counts what it has queued to write as memory of the session, and refuses streams beyond it.
  const session = http2.connect(`http://127.0.0.1:${server.plainPort}`, { maxSessionMemory: 1000, settings: { initialWindowSize: 1 << 20 } });
  session.on('error', (e) => (session.failure = e));
  session.on('connect', () => session.setLocalWindowSize(16 << 20));
  const opening = guard(new Promise((resolve) => session.once('remoteSettings', () => resolve(session))), 'the settings of an HTTP/2 server');
  sessions.set(server, opening);
  session.unref();
  return opening;
}

export async function leaveHttp2(server) {
  (await sessions.get(server))?.destroy();
}

async function overHttp2(server, path, fields) {
  const session = await sessionWith(server);
  const stream = session.request(
    { ':method': 'CONNECT', ':protocol': 'websocket', ':scheme': 'http', ':authority': `127.0.0.1:${server.plainPort}`, ':path': path,
      'sec-websocket-version': '13', ...Object.fromEntries(Object.entries(fields).map(([n, v]) => [n.toLowerCase(), v])) },
    { endStream: false },
  );
  const pipe = new Pipe(stream);
  const head = await guard(
    new Promise((resolve, reject) => stream.once('response', resolve).once('close', () => reject(new Error(`no WebSocket: ${pipe.how} ${session.failure ?? ''}`)))),
    'the answer to CONNECT',
  );
  if (head[':status'] !== 200) throw new Error(`no WebSocket: ${head[':status']}`);
  pipe.extensions = head['sec-websocket-extensions'];
  return pipe;
}

export const CARRIERS = { TCP: overTcp, TLS: overTls, 'HTTP/2': overHttp2 };
