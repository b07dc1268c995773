// dial.js - connections to servers of these tests, in clear or over TLS as the port wants.
//
// CRIER_TEST_TLS names a folder with cert.pem and key.pem (tests/tools/local_certificate makes it):
// every server then has a TLS port and its clients use that, so that the same tests run twice.
// NODE_EXTRA_CA_CERTS must name the same certificate, which makes all of Node trust it.

import net from 'node:net';
import { join } from 'node:path';
import tls from 'node:tls';

const dir = process.env.CRIER_TEST_TLS;

// CRIER_TEST_HTTP2=1: requests, event streams and WebSockets of the tests are streams of one HTTP/2
// connection per server.
export const http2Everywhere = Boolean(process.env.CRIER_TEST_HTTP2);

// {cert, key}: files of every server; null: in clear.
export const tlsEverywhere = dir ? { cert: join(dir, 'cert.pem'), key: join(dir, 'key.pem') } : null;

const secure = new Set(); // ports that speak TLS

export function useTls(port, on = true) {
  if (on) secure.add(port);
  else secure.delete(port);
}

export function isSecure(port) {
  return secure.has(port);
}

function tlsSocket(to) {
  const tcp = net.connect(to);
  const socket = tls.connect({ socket: tcp, servername: 'localhost', allowHalfOpen: to.allowHalfOpen, ALPNProtocols: to.alpn });
  socket.once('secureConnect', () => socket.emit('dialled'));
  tcp.on('error', (e) => socket.destroy(e));
  socket.resetAndDestroy = () => {
    tcp.resetAndDestroy();
    socket.destroy();
  };
  return socket;
}

// A socket that says 'dialled' when it can be used: under TLS after the handshake. `alpn`: what it
// offers there.
export function dial(port, options = {}) {
  const to = { port, host: '127.0.0.1', ...options };
  if (secure.has(port)) return tlsSocket(to);
  const socket = net.connect(to);
  socket.once('connect', () => socket.emit('dialled'));
  return socket;
}
