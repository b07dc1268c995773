// cases.js - what is sent and what must come, by the numbers of the Autobahn test suite (0.8): 1 to
// 10. Those of compression, 12 and 13, are in compressed.js.
//
// A case is {id, what, frames, chop, comes, fails, close, play}:
//   frames  what the client sends, chopped as `chop` says ('one' write, one per 'frame', or octets)
//   comes   the frames that must come back, in this order, and no others
//   close   the payload of the Close that must follow, when the client's frames have one
//   fails   {code, at: [frame, byte]}: the server must close with this code although the client said
//           no Close, and must know so by this byte of that frame's wire image (without `at`: by the
//           end of the last frame)
//   large   beyond the default limit of a message: needs a server that allows 16 MiB
//   make    gives frames and comes when they are needed, because they are large
//   play    instead of all that, for what needs more than one exchange
// With neither close nor fails nor play the client says Close 1000 after `comes` and gets it back.

import { BINARY, CLOSE, closing, CONTINUE, encode, PING, PONG, TEXT } from './client.js';
import { judge, KOSME, VECTORS } from './utf8.js';

const KIB = 1024, MIB = 1024 * 1024;
const HELLO = 'Hello, world!';
const NOT_TEXT = Buffer.from([0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff]);
const EDITED = Buffer.from('edited');

const text = (payload, more) => ({ opcode: TEXT, payload, ...more });
const binary = (payload, more) => ({ opcode: BINARY, payload, ...more });
const ping = (payload = '') => ({ opcode: PING, payload });
const pong = (payload = '') => ({ opcode: PONG, payload });
const times = (n, make) => Array.from({ length: n }, (_, i) => make(i));

// One message in frames of at most `size` bytes of payload.
export function fragments(opcode, payload, size, rsv = 0) {
  const body = Buffer.from(payload);
  const n = Math.max(1, Math.ceil(body.length / size));
  return times(n, (i) => ({
    opcode: i ? CONTINUE : opcode, payload: body.subarray(i * size, (i + 1) * size), fin: i === n - 1, rsv: i ? 0 : rsv,
  }));
}

// Text of exactly n bytes (a multiple of 16) with characters of every length, and bytes of any value.
export const prose = (n) => Buffer.alloc(n, 'abπß€😀 !\n');
export function noise(n) {
  const out = Buffer.alloc(n);
  for (let i = 0, x = 0x2545f491; i < n; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    out[i] = x;
  }
  return out;
}

function framing() {
  const sizes = [0, 125, 126, 127, 128, 65535, 65536];
  const of = (section, make, fill) =>
    [...sizes.map((n) => [n]), [65536, 997]].map(([n, chop = 'one'], i) => {
      const message = make(Buffer.alloc(n, fill));
      return { id: `${section}.${i + 1}`, what: `${n} bytes, chopped: ${chop}`, frames: [message], chop, comes: [message] };
    });
  return [...of('1.1', text, '*'), ...of('1.2', binary, 0xfe)];
}

function pings() {
  const answered = (id, payload, chop) => ({ id, what: `ping of ${payload.length} bytes`, frames: [ping(payload)], chop, comes: [pong(payload)] });
  const ten = times(10, (i) => `payload-${i}`);
  return [
    answered('2.1', ''),
    answered('2.2', HELLO),
    answered('2.3', NOT_TEXT),
    answered('2.4', Buffer.alloc(125, 0xfe)),
    { id: '2.5', what: 'ping of 126 bytes', frames: [ping(Buffer.alloc(126, 0xfe))], comes: [], fails: { code: 1002, at: [0, 1] } },
    answered('2.6', Buffer.alloc(125, 0xfe), 1),
    { id: '2.7', what: 'pong nobody asked for', frames: [pong(), closing(1000)], comes: [], close: closing(1000).payload },
    { id: '2.8', what: 'the same with a payload', frames: [pong('unasked'), closing(1000)], comes: [], close: closing(1000).payload },
    { id: '2.9', what: 'pong, then ping', frames: [pong('unasked'), ping('asked')], comes: [pong('asked')] },
    { id: '2.10', what: 'ten pings', frames: ten.map(ping), comes: ten.map(pong) },
    { id: '2.11', what: 'ten pings in octets', frames: ten.map(ping), chop: 1, comes: ten.map(pong) },
  ];
}

function reservedBits() {
  const alone = (id, frame) => ({ id, what: `reserved bits ${frame.rsv} on opcode ${frame.opcode}`, frames: [frame], comes: [], fails: { code: 1002, at: [0, 0] } });
  const behind = (id, rsv, chop) => ({
    id, what: `text, text with reserved bits ${rsv}, ping`, frames: [text(HELLO), text(HELLO, { rsv }), ping()], chop, comes: [text(HELLO)],
    fails: { code: 1002, at: [1, 0] },
  });
  return [
    alone('3.1', text(HELLO, { rsv: 1 })),
    behind('3.2', 2, 'one'),
    behind('3.3', 3, 'frame'),
    behind('3.4', 4, 1),
    alone('3.5', binary(NOT_TEXT, { rsv: 5 })),
    alone('3.6', { ...ping(HELLO), rsv: 6 }),
    alone('3.7', { opcode: CLOSE, rsv: 7 }),
  ];
}

function opcodes() {
  const of = (section, first) => {
    const bad = (n, payload = '') => ({ opcode: first + n, payload });
    const alone = (n, payload) => ({ id: `${section}.${n + 1}`, what: `opcode ${first + n}`, frames: [bad(n, payload)], comes: [], fails: { code: 1002, at: [0, 0] } });
    const behind = (n, payload, chop) => ({
      id: `${section}.${n + 1}`, what: `text, opcode ${first + n}, ping`, frames: [text(HELLO), bad(n, payload), ping()], chop, comes: [text(HELLO)],
      fails: { code: 1002, at: [1, 0] },
    });
    return [alone(0), alone(1, 'reserved'), behind(2), behind(3, HELLO), behind(4, HELLO, 1)];
  };
  return [...of('4.1', 3), ...of('4.2', 11)];
}

function fragmentation() {
  const part = (n) => `fragment${n}`;
  const begin = (n) => text(part(n), { fin: false });
  const middle = (n) => ({ opcode: CONTINUE, payload: part(n), fin: false });
  const last = (n) => ({ opcode: CONTINUE, payload: part(n) });
  const whole = (...n) => text(n.map(part).join(''));
  const chops = ['one', 'frame', 1];
  const orphan = { comes: [], fails: { code: 1002, at: [0, 0] } };
  const control = (id, opcode) => ({ id, what: `opcode ${opcode} in two fragments`, frames: [{ opcode, payload: part(1), fin: false }, last(2)], ...orphan });
  const series = (first, what, frames, rest) => chops.map((chop, i) => ({ id: `5.${first + i}`, what: `${what}, chopped: ${chop}`, frames, chop, ...rest }));
  const withPings = (id, chop) => ({
    id, what: `five fragments and two pings, chopped: ${chop}`,
    async play(ws) {
      await ws.send([begin(1), middle(2), ping('pongme 1!')], chop);
      await ws.expect(pong('pongme 1!'));
      await ws.send([middle(3), middle(4), ping('pongme 2!'), last(5)], chop);
      await ws.expect(pong('pongme 2!'));
      await ws.expect(whole(1, 2, 3, 4, 5));
    },
  });
  return [
    control('5.1', PING),
    control('5.2', PONG),
    ...series(3, 'two fragments', [begin(1), last(2)], { comes: [whole(1, 2)] }),
    ...series(6, 'two fragments, a ping between', [begin(1), ping('between'), last(2)], { comes: [pong('between'), whole(1, 2)] }),
    ...series(9, 'the end of nothing, then text', [last(1), text(HELLO)], orphan),
    ...series(12, 'the middle of nothing, then text', [middle(1), text(HELLO)], orphan),
    {
      id: '5.15', what: 'two fragments, the middle of nothing, text', frames: [begin(1), last(2), middle(3), text(part(4))], comes: [whole(1, 2)],
      fails: { code: 1002, at: [2, 0] },
    },
    { id: '5.16', what: 'twice: the middle of nothing, two fragments', frames: times(2, () => [middle(1), begin(2), last(3)]).flat(), ...orphan },
    { id: '5.17', what: 'twice: the end of nothing, two fragments', frames: times(2, () => [last(1), begin(2), last(3)]).flat(), ...orphan },
    { id: '5.18', what: 'two fragments, both opcodes text', frames: [begin(1), text(part(2))], comes: [], fails: { code: 1002, at: [1, 0] } },
    withPings('5.19', 'one'),
    withPings('5.20', 'frame'),
  ];
}

// Where in a masked frame with a short header a byte of its payload is.
const PAYLOAD_AT = 6;

function badText(id, payload, what = payload.toString('hex')) {
  const { bad } = judge(payload);
  return { id, what, frames: [text(payload)], comes: [], fails: { code: 1007, at: bad === undefined ? undefined : [0, PAYLOAD_AT + bad] }, notText: payload };
}

const goodText = (id, frames, whole) => ({ id, what: `${frames.length} frames of text`, frames, comes: [text(whole)] });

function utf8() {
  const phrase = Buffer.from('Hello-µ@ßöäüàá-UTF-8!!');
  const half = Buffer.byteLength('Hello-µ@ßöä');
  const surrogate = Buffer.concat([KOSME, Buffer.from([0xed, 0xa0, 0x80]), EDITED]);
  const beyond = Buffer.concat([KOSME, Buffer.from([0xf4, 0x90, 0x80, 0x80]), EDITED]);
  const vectors = VECTORS.flatMap(([what, texts], i) => texts.map((one, j) => {
    const id = `6.${i + 5}.${j + 1}`;
    return judge(one).valid ? { ...goodText(id, [text(one)], one), what } : badText(id, one, what);
  }));
  return [
    goodText('6.1.1', [text('')], ''),
    goodText('6.1.2', [text('', { fin: false }), { opcode: CONTINUE, fin: false }, { opcode: CONTINUE }], ''),
    goodText('6.1.3', [text('', { fin: false }), { opcode: CONTINUE, payload: 'middle', fin: false }, { opcode: CONTINUE }], 'middle'),
    goodText('6.2.1', [text(phrase)], phrase),
    goodText('6.2.2', fragments(TEXT, phrase, half), phrase),
    goodText('6.2.3', fragments(TEXT, phrase, 1), phrase),
    goodText('6.2.4', fragments(TEXT, KOSME, 1), KOSME),
    badText('6.3.1', surrogate),
    { id: '6.3.2', what: 'the same in fragments of one byte', frames: fragments(TEXT, surrogate, 1), comes: [], fails: { code: 1007, at: [judge(surrogate).bad, PAYLOAD_AT] } },
    { id: '6.4.1', what: 'beyond U+10FFFF, in three frames', play: inFrames(beyond, [KOSME.length, KOSME.length + 4]) },
    { id: '6.4.2', what: 'the second frame only the bad byte', play: inFrames(beyond, [KOSME.length + 1, KOSME.length + 2]) },
    { id: '6.4.3', what: 'beyond U+10FFFF, in three chops of one frame', play: inChops(beyond, [KOSME.length, KOSME.length + 4]) },
    { id: '6.4.4', what: 'the second chop only the bad byte', play: inChops(beyond, [KOSME.length + 1, KOSME.length + 2]) },
    ...vectors,
  ];
}

// The first part is accepted: a ping is answered behind it. The second is refused at once; the third
// is never sent.
function inFrames(payload, [first, second]) {
  return async (ws) => {
    await ws.send([text(payload.subarray(0, first), { fin: false }), ping('alive')]);
    await ws.expect(pong('alive'));
    await ws.send([{ opcode: CONTINUE, payload: payload.subarray(first, second), fin: false }]);
    await ws.expectFailure(1007);
    return 'failed';
  };
}

// Within a frame there is no room for a ping; that the connection is alive is seen by a message of
// somebody else.
function inChops(payload, [first, second]) {
  return async (ws, { publish }) => {
    const wire = encode(text(payload));
    await ws.push(wire.subarray(0, PAYLOAD_AT + first));
    await publish('alive');
    await ws.expect(text('alive'));
    await ws.push(wire.subarray(PAYLOAD_AT + first, PAYLOAD_AT + second));
    await ws.expectFailure(1007);
    return 'failed';
  };
}

// Text that is not UTF-8, byte by byte in fragments: before the bad one a ping is answered, at it the
// connection fails, though the message could go on. What is only unfinished fails at its end.
export function failsAtOnce(payload) {
  const { bad = payload.length } = judge(payload);
  const bytes = times(bad, (i) => ({ opcode: i ? CONTINUE : TEXT, payload: payload.subarray(i, i + 1), fin: false }));
  const opcode = bad ? CONTINUE : TEXT;
  return async (ws) => {
    await ws.send([...bytes, ping('alive')], 'frame');
    await ws.expect(pong('alive'));
    await ws.send([bad < payload.length ? { opcode, payload: payload.subarray(bad, bad + 1), fin: false } : { opcode }]);
    await ws.expectFailure(1007);
    return 'failed';
  };
}

const VALID_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999];
const INVALID_CODES = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999];

function closes() {
  const bye = closing(1000);
  const answered = (id, frame, more) => ({ id, what: `Close of ${frame.payload.length} bytes`, frames: [frame], comes: [], close: frame.payload.subarray(0, 2), ...more });
  const refused = (id, frame, byte, code = 1002) => ({ id, what: `Close of ${frame.payload.length} bytes`, frames: [frame], comes: [], fails: { code, at: [0, byte] } });
  const notText = Buffer.concat([KOSME, Buffer.from([0xed, 0xa0, 0x80]), EDITED]);
  const big = text(Buffer.alloc(256 * KIB, 'BAsd7&jh23'));
  return [
    { id: '7.1.1', what: 'text, Close', frames: [text('Hello World!'), bye], comes: [text('Hello World!')], close: bye.payload },
    { id: '7.1.2', what: 'two Closes', frames: [bye, bye], comes: [], close: bye.payload },
    { id: '7.1.3', what: 'Close, ping', frames: [bye, ping()], comes: [], close: bye.payload },
    { id: '7.1.4', what: 'Close, text', frames: [bye, text(HELLO)], comes: [], close: bye.payload },
    { id: '7.1.5', what: 'fragment, Close, fragment', frames: [text('a', { fin: false }), bye, { opcode: CONTINUE, payload: 'b' }], comes: [], close: bye.payload },
    { id: '7.1.6', what: '256 KiB, text, Close, ping', large: true, frames: [big, text(HELLO), bye, ping()], comes: [big, text(HELLO)], close: bye.payload },
    answered('7.3.1', { opcode: CLOSE, payload: Buffer.alloc(0) }),
    refused('7.3.2', { opcode: CLOSE, payload: Buffer.from('a') }, 1),
    answered('7.3.3', bye),
    answered('7.3.4', closing(1000, 'Hello World!')),
    answered('7.3.5', closing(1000, '*'.repeat(123))),
    refused('7.3.6', closing(1000, '*'.repeat(124)), 1),
    refused('7.5.1', closing(1000, notText), PAYLOAD_AT + 2 + judge(notText).bad, 1007),
    ...VALID_CODES.map((code, i) => answered(`7.7.${i + 1}`, closing(code))),
    ...INVALID_CODES.map((code, i) => refused(`7.9.${i + 1}`, closing(code), PAYLOAD_AT + 1)),
    refused('7.13.1', closing(5000), PAYLOAD_AT + 1),
    refused('7.13.2', closing(65535), PAYLOAD_AT + 1),
  ];
}

// `fewer`: over TLS and HTTP/2 the round trips are a fifth.
function limits() {
  const large = { large: true };
  const kinds = [[TEXT, prose], [BINARY, noise]];
  const sizes = [64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB];
  const pieces = [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB];
  const chops = [64, 128, 256, 512, KIB, 2 * KIB];
  const small = [0, 16, 64, 256, KIB, 4 * KIB];
  const both = (first, each) => kinds.flatMap(([opcode, fill], k) => each(`9.${first + k}`, opcode, fill));
  const echo = (id, what, make, chop) => ({ id, what, ...large, chop, make });
  return [
    ...both(1, (s, opcode, fill) => sizes.map((n, i) => echo(`${s}.${i + 1}`, `${n} bytes`, () => {
      const message = { opcode, payload: fill(n) };
      return { frames: [message], comes: [message] };
    }))),
    ...both(3, (s, opcode, fill) => pieces.map((n, i) => echo(`${s}.${i + 1}`, `4 MiB in fragments of ${n}`, () => {
      const payload = fill(4 * MIB);
      return { frames: fragments(opcode, payload, n), comes: [{ opcode, payload }] };
    }))),
    ...both(5, (s, opcode, fill) => chops.map((n, i) => echo(`${s}.${i + 1}`, `1 MiB in chops of ${n}`, () => {
      const message = { opcode, payload: fill(MIB) };
      return { frames: [message], comes: [message] };
    }, n))),
    ...both(7, (s, opcode, fill) => small.map((n, i) => ({ id: `${s}.${i + 1}`, what: `round trips of ${n} bytes`, ...large, play: roundTrips({ opcode, payload: fill(n) }) }))),
  ];
}

function roundTrips(message) {
  return async (ws, { fewer }) => {
    const wire = encode(message);
    for (let i = 0; i < (fewer ? 200 : 1000); i++) {
      await ws.send([wire]);
      await ws.expect(message);
    }
  };
}

function misc() {
  const message = text(Buffer.alloc(65536, '*'));
  return [{ id: '10.1.1', what: '64 KiB in fragments of 1300', frames: fragments(TEXT, message.payload, 1300), comes: [message] }];
}

export const SECTIONS = [
  ['1 framing', framing(), 16],
  ['2 pings and pongs', pings(), 11],
  ['3 reserved bits', reservedBits(), 7],
  ['4 opcodes', opcodes(), 10],
  ['5 fragmentation', fragmentation(), 20],
  ['6 UTF-8', utf8(), 145],
  ['7 closing', closes(), 37],
  ['9 limits', limits(), 54],
  ['10 misc', misc(), 1],
].map(([name, cases, n]) => ({ name, cases, n }));
