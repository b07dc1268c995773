// wscarriers.js - the same frames by hand over HTTP/1.1 and over a stream of HTTP/2.

import { rawSubscribed } from './http.js';
import { openHttp2 } from './http2.js';
import { Raw, rawConnect } from './raw.js';
import { RawWs, upgradeRequest } from './wsraw.js';

// What is to be sent as several header fields is an array; null leaves a field away.
function lines(server, path, fields) {
  const single = Object.fromEntries(Object.entries(fields).filter(([, v]) => !Array.isArray(v)));
  const more = Object.entries(fields).flatMap(([n, v]) => (Array.isArray(v) ? v.map((one) => `${n}: ${one}\r\n`) : []));
  for (const [n, v] of Object.entries(fields)) if (Array.isArray(v)) single[n] = null;
  return upgradeRequest(server, path, single).replace(/\r\n$/, `${more.join('')}\r\n`);
}

async function overHttp1(t, server, path, fields) {
  const raw = await rawConnect(t, server);
  raw.send(lines(server, path, fields));
  const head = await raw.head();
  return { raw, status: head.status === 101 ? 200 : head.status, headers: head.headers };
}

async function overHttp2(t, server, path, fields) {
  const h2 = await openHttp2(t, server);
  const headers = Object.fromEntries(Object.entries(fields).map(([n, v]) => [n.toLowerCase(), v ?? undefined]));
  const stream = h2.connectWs(path, { headers });
  const head = await stream.head;
  stream.setNoDelay = () => {};
  stream.once('end', () => stream.end()); // as a socket does by itself
  return { raw: new Raw(stream), status: head.status, headers: head.headers };
}

const OVER = { 'HTTP/1.1': overHttp1, 'HTTP/2': overHttp2 };
export const CARRIERS = Object.keys(OVER);

// {status, headers} of the handshake, 200 for one that is accepted.
export function shake(t, server, carrier, path, fields = {}) {
  return OVER[carrier](t, server, path, fields);
}

export async function openCarried(t, server, carrier, path, fields = {}) {
  const open = async () => {
    const { raw, status, headers } = await shake(t, server, carrier, path, fields);
    if (status !== 200) throw new Error(`no WebSocket: ${status}`);
    const ws = new RawWs(raw);
    ws.headers = headers;
    return ws;
  };
  if (path.includes('format=raw')) return rawSubscribed(server, path, open, (ws) => ws.raw.closed);
  const ws = await open();
  if (path.startsWith('/ws')) ws.ready = await ws.json();
  return ws;
}
