// wsclient.js - npm `ws` with an awaitable queue of what arrived; over HTTP/2 where the tests want it.

import WebSocket from 'ws';
import { http2Everywhere } from './dial.js';
import { rawSubscribed } from './http.js';
import { sharedHttp2 } from './http2.js';
import { atEnd, guard, Queue } from './wait.js';

export class WsClient {
  // Over a stream on which the WebSocket is open already (HTTP/2). `ws` does so for its server; with
  // _isServer unset it is a client.
  static over(stream, url, protocol = '') {
    const socket = new WebSocket(null, undefined, { autoPong: true, closeTimeout: 30000 });
    socket._isServer = false;
    socket._protocol = protocol;
    const client = new WsClient(url, { socket });
    socket.setSocket(stream, Buffer.alloc(0), { allowSynchronousEvents: true, maxPayload: 0, skipUTF8Validation: false });
    return client;
  }

  constructor(url, { socket, protocols = [], headers = {}, ...options } = {}) {
    this.socket = socket ?? new WebSocket(url, protocols, { headers, perMessageDeflate: false, ...options });
    this.frames = new Queue(`the WebSocket ${url}`);
    this.pings = new Queue('pings');
    this.refs = 0;
    this.ending = new Promise((resolve) => {
      this.socket.on('close', (code, reason) => {
        const how = { code, reason: reason.toString() };
        this.frames.end(new Error(`${url} was closed with ${code} ${reason}`));
        resolve(how);
      });
    });
    this.socket.on('message', (data, isBinary) => this.frames.push(isBinary ? data : data.toString()));
    this.socket.on('ping', (data) => this.pings.push(data));
    this.socket.on('error', (e) => (this.error = e));
  }

  // {code, reason} of the close.
  get closed() {
    return guard(this.ending, `${this.socket.url} to be closed`);
  }

  async opened() {
    await guard(
      new Promise((resolve, reject) => {
        this.socket.once('open', resolve);
        this.socket.once('error', reject);
      }),
      'the WebSocket to open',
    );
    return this;
  }

  // The next frame, which must be text, as JSON.
  async next(what) {
    const frame = await this.frames.next(what);
    if (typeof frame !== 'string') throw new Error('a binary frame came where text was expected');
    return JSON.parse(frame);
  }

  async take(n) {
    const out = [];
    while (out.length < n) out.push(await this.next(`frame ${out.length + 1} of ${n}`));
    return out;
  }

  async upTo(fits, what = 'the awaited frame') {
    const out = [];
    do out.push(await this.next(`${what} (so far ${JSON.stringify(out.slice(-3))})`));
    while (!fits(out[out.length - 1]));
    return out;
  }

  send(value) {
    this.socket.send(typeof value === 'string' || Buffer.isBuffer(value) ? value : JSON.stringify(value));
  }

  // Sends a command with a ref of its own; gives the frames before the answer, and the answer.
  async command(value) {
    const ref = value.ref ?? ++this.refs;
    this.send({ ...value, ref });
    const frames = await this.upTo((m) => m.ref === ref, `the answer to ${value.op}`);
    const answer = frames.pop();
    this.before = frames;
    return answer;
  }

  async close(code = 1000) {
    this.socket.close(code);
    return this.closed;
  }
}

function overHttp1(t, server, path, options) {
  const client = new WsClient(server.wsUrl(path), options);
  atEnd(t, () => client.socket.terminate());
  return client.opened();
}

// The headers that npm `ws` makes of its options.
function headersOf({ protocols = [], origin, perMessageDeflate, headers }) {
  return {
    ...headers,
    ...(protocols.length ? { 'sec-websocket-protocol': protocols.join(',') } : {}),
    ...(origin !== undefined ? { origin } : {}),
    ...(perMessageDeflate ? { 'sec-websocket-extensions': 'permessage-deflate; client_max_window_bits' } : {}),
  };
}

async function overHttp2(t, server, path, options) {
  const client = await (await sharedHttp2(server)).webSocket(path, { headers: headersOf(options) });
  atEnd(t, () => client.socket.terminate());
  return client;
}

// A connected client; the first frame of a JSON client is taken as `client.ready`.
export async function openWs(t, server, path = '/ws', options = {}) {
  const open = () => (http2Everywhere ? overHttp2 : overHttp1)(t, server, path, options);
  if (path.includes('format=raw')) return rawSubscribed(server, path, open, (c) => c.socket.readyState !== WebSocket.OPEN);
  const client = await open();
  if (path.startsWith('/ws')) {
    client.ready = await client.next('ready');
    if (client.ready.op !== 'ready') throw new Error(`expected ready, got ${JSON.stringify(client.ready)}`);
  }
  return client;
}

// The answer to an upgrade that is refused.
export async function refusedWs(server, path, options = {}) {
  if (!http2Everywhere) return refusedHttp1(server, path, options);
  return (await sharedHttp2(server)).refusedWs(path, { headers: headersOf(options) });
}

function refusedHttp1(server, path, options) {
  const socket = new WebSocket(server.wsUrl(path), options.protocols || [], options);
  return guard(
    new Promise((resolve, reject) => {
      socket.on('open', () => {
        socket.terminate();
        reject(new Error(`${path} was upgraded`));
      });
      socket.on('error', () => {});
      socket.on('unexpected-response', (req, res) => {
        let text = '';
        res.setEncoding('utf8').on('data', (d) => (text += d));
        res.on('end', () => resolve({ status: res.statusCode, headers: res.headers, text, json: () => JSON.parse(text) }));
      });
    }),
    `the refusal of ${path}`,
  );
}
