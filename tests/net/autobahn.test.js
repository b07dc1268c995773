// The behaviours of the 517 cases of the Autobahn test suite (0.8), each by its number, over TCP, over
// TLS and over HTTP/2. Facts about the cases are Autobahn's, the code is not; what Autobahn calls
// NON-STRICT or INFORMATIONAL has one right outcome here.
//
// Autobahn wants an echo server. A raw WebSocket hears what it publishes: bytes and kind are kept, also
// of an empty message, and one connection's messages keep their order. Different by design:
//   - a pong does not wait for echoes that are on their way through the bus, so it may overtake them
//     (no case depends on that);
//   - a message of any number of fragments comes back as one frame, and small ones uncompressed;
//   - the answer to a Close has its code and no reason;
//   - what was sent before a Close or a violation is heard before the server's Close (7.1.1, 7.1.6, 3.2
//     and others); nothing after it has any effect;
//   - codes of which the RFC says nothing (7.13) are refused with 1002.
// Each failing case runs twice: as Autobahn has it, and octet by octet up to the first bad byte, where
// the server must close although the rest is never sent. Texts that are not UTF-8 run a third time, in
// fragments of one byte, with a ping that is still answered right before the bad one.
// Sections 12 and 13 send fewer messages than Autobahn (lib/ws-conformance/compressed.js), 9.7 and 9.8
// over TLS and HTTP/2 a fifth of its thousand round trips; all else is in full on every carrier.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { makeCertificates } from './lib/certs.js';
import { get, publish } from './lib/http.js';
import { startServer } from './lib/server.js';
import { atEnd } from './lib/wait.js';
import { failsAtOnce, prose, SECTIONS as PLAIN } from './lib/ws-conformance/cases.js';
import { Client, CLOSE, closing, encode, TEXT } from './lib/ws-conformance/client.js';
import { COMPRESSED, flushed, OFFERS } from './lib/ws-conformance/compressed.js';
import { CARRIERS, leaveHttp2 } from './lib/ws-conformance/pipe.js';
import { judge, VECTORS } from './lib/ws-conformance/utf8.js';

const AT_ONCE = 24;
const SECTIONS = [...PLAIN, ...COMPRESSED];
// One connection serves all streams over HTTP/2, and is idle while the other server is asked.
const BOTH = ['--request-timeout', '10m'];
const SMALL = [...BOTH, '--workers', '1']; // what comes of one thread is in its order
const LARGE = [...BOTH, '--max-message', '16m', '--outbox-bytes', '64m', '--history', '0', '--ws-fragments', '65536'];

async function serve(t, certificates, flags) {
  const server = await startServer(t, flags, { tls: { cert: certificates.cert, key: certificates.key } });
  server.tlsPort = server.port;
  server.oneThread = flags === SMALL;
  server.ca = readFileSync(certificates.ca);
  server.talk(server.plainPort);
  atEnd(t, () => leaveHttp2(server));
  return server;
}

let channels = 0;

async function withClient(open, server, script, { offer, agreed, fewer }) {
  const channel = `autobahn-${++channels}`;
  const pipe = await open(server, `/ws?format=raw&channel=${channel}`, offer ? { 'Sec-WebSocket-Extensions': offer } : {});
  const compressed = agreed !== undefined;
  const ws = new Client(pipe, { deflate: compressed });
  try {
    assert.equal(pipe.extensions, agreed, 'what was agreed on');
    const failed = await script(ws, { publish: (data) => publish(server, channel, data), fewer, compressed });
    if (!failed) {
      await ws.send([closing(1000)]);
      await ws.expect(closing(1000));
    }
    await ws.expectEnd(server.oneThread && (() => get(server, '/health')));
  } finally {
    pipe.destroy();
  }
}

// What a case of the table does.
function scriptOf(one) {
  if (one.play) return one.play;
  return async (ws) => {
    const { frames, comes } = one.make?.() ?? one;
    const sent = ws.send(frames, one.chop);
    for (const frame of comes) await ws.expect(frame);
    await sent;
    if (one.fails) await ws.expectFailure(one.fails.code);
    if (one.close) await ws.expect({ opcode: CLOSE, payload: one.close });
    return one.fails || one.close;
  };
}

// Up to the first bad byte and not further.
function cutScriptOf({ frames, comes, fails }) {
  const wire = frames.map((f) => encode(f));
  const [frame, byte] = fails.at;
  const cut = Buffer.concat([...wire.slice(0, frame), wire[frame].subarray(0, byte + 1)]);
  return async (ws) => {
    await ws.send([cut], 1);
    for (const wanted of comes) await ws.expect(wanted);
    await ws.expectFailure(fails.code);
    return true;
  };
}

function scriptsOf(one) {
  const scripts = [['', scriptOf(one)]];
  if (one.fails?.at) scripts.push([', up to the bad byte', cutScriptOf(one)]);
  if (one.notText) scripts.push([', in fragments of one byte', failsAtOnce(one.notText)]);
  return scripts;
}

// Many at once; gives what went wrong.
async function runAll(jobs, atOnce) {
  const wrong = [];
  const lane = async () => {
    for (let job = jobs.shift(); job; job = jobs.shift())
      try {
        await job.run();
      } catch (e) {
        wrong.push(`${job.name}: ${e.message}`);
      }
  };
  await Promise.all(Array.from({ length: atOnce }, lane));
  return wrong;
}

// What is close to the list and not in it.
async function beyond(t, open, server) {
  const [offer, agreed] = OFFERS[0];
  const alone = (what, script, options = {}) => t.test(`beyond the list: ${what}`, () => withClient(open, server, script, options));
  const fails = async (ws, code) => {
    await ws.expectFailure(code);
    return true;
  };
  for (const [what, last, code] of [['a Close', closing(1000), 1000], ['a violation', { opcode: 3 }, 1002]])
    await alone(`text, ${what} and the end of the stream at once`, async (ws) => {
      const text = { opcode: TEXT, payload: 'said before' };
      ws.pipe.stream.end(Buffer.concat([text, last].map(encode)));
      await ws.expect(text);
      return fails(ws, code);
    });
  // A server that closed its socket now would reset the connection, and its Close might be lost.
  await alone('much behind a violation', (ws) => {
    ws.send([{ opcode: 3 }, Buffer.alloc(4 << 20)]);
    return fails(ws, 1002);
  });
  // Inflaters are lent: what another client said must not be within reach.
  await alone('a compressed message that refers to the one before', async (ws) => {
    const text = { opcode: TEXT, payload: prose(4096) };
    await ws.send([{ ...text, payload: flushed(text.payload), rsv: 4 }]);
    await ws.expect(text);
    await ws.send([{ ...text, payload: flushed(text.payload, { dictionary: text.payload }), rsv: 4 }]);
    return fails(ws, 1007);
  }, { offer, agreed });
  await t.test('beyond the list: the texts of section 6, compressed', async () => {
    const jobs = VECTORS.flatMap(([what, texts]) => texts.map((text) => {
      const script = async (ws) => {
        await ws.send([{ opcode: TEXT, payload: flushed(text), rsv: 4 }]);
        return judge(text).valid ? ws.expect({ opcode: TEXT, payload: text }) : fails(ws, 1007);
      };
      return { name: `${text.toString('hex')} (${what})`, run: () => withClient(open, server, script, { offer, agreed }) };
    }));
    const wrong = await runAll(jobs, AT_ONCE);
    assert.equal(wrong.length, 0, wrong.join('\n'));
  });
}

test('the list has all 517 numbers, none twice', () => {
  const ids = SECTIONS.flatMap(({ name, cases, n }) => {
    assert.equal(cases.length, n, `cases of ${name}`);
    for (const { id } of cases) assert.equal(id.split('.')[0], name.split(' ')[0], `${id} is of ${name}`);
    return cases.map((c) => c.id);
  });
  assert.equal(new Set(ids).size, ids.length);
  assert.equal(ids.length, 517);
});

for (const [carrier, open] of Object.entries(CARRIERS))
  test(`over ${carrier}`, async (t) => {
    const certificates = makeCertificates(t);
    const servers = { small: await serve(t, certificates, SMALL), large: await serve(t, certificates, LARGE) };
    for (const { name, cases } of SECTIONS)
      await t.test(`${name}: ${cases.length} cases`, async () => {
        const jobs = cases.flatMap((one) => {
          const server = one.large ? servers.large : servers.small;
          return scriptsOf(one).map(([how, script]) => ({
            name: `${one.id} (${one.what}${how})`, run: () => withClient(open, server, script, { ...one, fewer: carrier !== 'TCP' }),
          }));
        });
        const wrong = await runAll(jobs, cases[0].large ? 4 : AT_ONCE);
        assert.equal(wrong.length, 0, wrong.join('\n'));
      });
    await beyond(t, open, servers.small);
  });
