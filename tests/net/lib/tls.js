// tls.js - a server with a TLS port beside the one in clear, and clients that say how they speak TLS.
//
// Other helpers of lib talk to the port in clear.

import { readFileSync } from 'node:fs';
import tls from 'node:tls';
import { makeCertificates } from './certs.js';
import { get } from './http.js';
import { freePort } from './process.js';
import { Raw } from './raw.js';
import { BIN, Server, spawnCrier } from './server.js';
import { atEnd, guard, until } from './wait.js';

export async function serveTls(t, flags = [], certs = makeCertificates(t)) {
  const tlsPort = await freePort();
  const proc = spawnCrier(['serve', '--host', '127.0.0.1', '--port', '0', '--drain', '2s', '--log-level', 'debug', '--tls-port', String(tlsPort),
    '--tls-cert', certs.cert, '--tls-key', certs.key, ...flags], {}, BIN);
  const server = new Server(proc);
  atEnd(t, () => server.stop());
  await server.listening();
  return Object.assign(server, { tlsPort, certs });
}

export function connectTls(t, server, options = {}) {
  const socket = tls.connect({ host: '127.0.0.1', port: server.tlsPort, ca: readFileSync(server.certs.ca), servername: 'localhost', ...options });
  const raw = new Raw(socket);
  atEnd(t, () => raw.close());
  return guard(new Promise((resolve, reject) => socket.once('secureConnect', () => resolve(raw)).once('error', reject)), 'the TLS handshake');
}

export const ask = (path) => `GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
export const health = async (raw) => (await raw.send(ask('/health')).answer()).status;

// The value of the first line with these labels.
export async function metric(server, labels) {
  const line = (await get(server, '/metrics')).text.split('\n').find((l) => l.includes(labels) && !l.startsWith('#'));
  return Number(line.split(' ').pop());
}

// What the log says of these events, once there are n of them.
export const logged = (server, event, n) => until(() => server.events(event).length >= n && server.events(event), `the log says ${event} ${n} times`);
