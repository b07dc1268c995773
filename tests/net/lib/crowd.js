// crowd.js - thousands of clients at once, as raw sockets: what they got is looked at as text.

import { query } from './http.js';
import { Raw } from './raw.js';
import { atEnd } from './wait.js';
import { upgradeRequest } from './wsraw.js';

const ASK = {
  sse: (server, parameters) => `GET /events?${query(parameters)} HTTP/1.1\r\nHost: ${server.host}\r\n\r\n`,
  ws: (server, parameters) => upgradeRequest(server, `/ws?${query(parameters)}`),
  poll: (server, parameters) => `GET /poll?${query({ ...parameters, limit: 1000 })} HTTP/1.1\r\nHost: ${server.host}\r\n\r\n`,
};
const KINDS = Object.keys(ASK);

// Connects n clients, lets all of them ask in the same moment, and waits until each has got the
// text `last(channel)`. Payloads must be short and of plain characters.
export async function resumeAtOnce(t, server, n, parametersOf, last) {
  const clients = [];
  atEnd(t, () => clients.forEach((c) => c.raw.close()));
  const connect = async (i) => {
    const client = { raw: await Raw.connect(server.port), transport: KINDS[i % 3], parameters: parametersOf(i) };
    client.channel = client.parameters.channel;
    clients.push(client);
  };
  for (let i = 0; i < n; i += 100) await Promise.all(Array.from({ length: Math.min(100, n - i) }, (_, k) => connect(i + k)));
  for (const { raw, transport, parameters } of clients) raw.send(ASK[transport](server, parameters));
  await Promise.all(clients.map(({ raw, channel }) => raw.wait((rest) => rest.includes(last(channel)), `the last message of ${channel}`)));
  return clients.map(({ raw, transport, channel }) => ({ transport, channel, text: raw.rest.toString('latin1') }));
}
