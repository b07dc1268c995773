// http.js - one request, one connection, everything of the answer; a stream of an HTTP/2 connection
// where the tests want that.

import http from 'node:http';
import https from 'node:https';
import { http2Everywhere, isSecure } from './dial.js';
import { sharedHttp2 } from './http2.js';
import { guard, until } from './wait.js';

export function request(server, path, options = {}) {
  return http2Everywhere ? requestHttp2(server, path, options) : requestHttp1(server, path, options);
}

// Host has another name there, and a body of unknown length no header.
async function requestHttp2(server, path, { headers: { Host: host, 'Transfer-Encoding': chunked, ...rest } = {}, ...options }) {
  const headers = host === undefined ? rest : { ':authority': host, ...rest };
  return (await sharedHttp2(server)).request(path, { ...options, headers });
}

export function requestHttp1(server, path, { method = 'GET', headers = {}, body, agent = false, signal } = {}) {
  const answer = new Promise((resolve, reject) => {
    const { request: ask } = isSecure(server.port) ? https : http;
    const req = ask({ host: '127.0.0.1', port: server.port, path, method, headers, agent, signal, servername: 'localhost' }, (res) => {
      const chunks = [];
      res.on('data', (c) => chunks.push(c));
      res.on('error', reject);
      res.on('end', () => {
        const bytes = Buffer.concat(chunks);
        const text = bytes.toString('utf8');
        resolve({ status: res.statusCode, headers: res.headers, rawHeaders: res.rawHeaders, bytes, text, json: () => JSON.parse(text) });
      });
    });
    req.on('error', reject);
    req.end(body);
  });
  return guard(answer, `the answer to ${method} ${path}`);
}

export const get = (server, path, options) => request(server, path, options);

export function query(parameters) {
  const q = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters))
    for (const v of Array.isArray(value) ? value : [value]) if (v !== undefined) q.append(name, String(v));
  return q.toString();
}

// Publishes one body to one channel and gives the id.
export async function publish(server, channel, body, { event, headers = {}, type = 'text/plain; charset=utf-8' } = {}) {
  const answer = await request(server, `/publish?${query({ channel, event })}`, {
    method: 'POST',
    headers: { ...(type ? { 'Content-Type': type } : {}), ...headers },
    body,
  });
  if (answer.status !== 200) throw new Error(`publish answered ${answer.status} ${answer.text}`);
  return answer.json().id;
}

export function postJson(server, path, value) {
  return request(server, path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: typeof value === 'string' ? value : JSON.stringify(value),
  });
}

// Publishes prefix0, prefix1, … in one batch and gives the ids in order.
export async function publishMany(server, channel, payloads) {
  const answer = await postJson(server, '/api/publish', payloads.map((data) => ({ channel, data })));
  if (answer.status !== 200) throw new Error(`publish answered ${answer.status} ${answer.text}`);
  return answer.json().map((one) => one.id);
}

export async function history(server, channel, parameters = {}) {
  const answer = await get(server, `/api/channels/${encodeURIComponent(channel)}/history?${query(parameters)}`);
  if (answer.status !== 200) throw new Error(`history answered ${answer.status} ${answer.text}`);
  return answer.json();
}

export async function subscribers(server, channel) {
  const answer = await get(server, `/api/channels/${encodeURIComponent(channel)}`);
  return answer.status === 200 ? answer.json().subscribers : 0;
}

// A raw WebSocket is not told when it is subscribed; the server is asked instead. `gone` says that
// the connection was closed meanwhile.
export async function rawSubscribed(server, path, open, gone) {
  const channel = new URL(path, server.origin).searchParams.get('channel');
  const before = await subscribers(server, channel);
  const client = await open();
  await until(async () => gone(client) || (await subscribers(server, channel)) > before, `the raw WebSocket listens to ${channel}`);
  return client;
}

export const numbered = (prefix, n, from = 0) => Array.from({ length: n }, (_, i) => `${prefix}${from + i}`);
