// utf8.js - texts that are UTF-8 and texts that are not, by rule, and where each goes wrong.

// The n-byte form of a number as UTF-8 would have it, were it allowed: overlong forms, surrogates,
// numbers beyond U+10FFFF and the old forms of five and six bytes too.
export function form(number, n) {
  if (n === 1) return Buffer.from([number]);
  const out = Buffer.alloc(n);
  for (let i = n - 1, left = number; i >= 0; i--, left = Math.floor(left / 64)) {
    const lead = [0xc0, 0xe0, 0xf0, 0xf8, 0xfc][n - 2];
    out[i] = i ? 0x80 | (left % 64) : lead | left;
  }
  return out;
}

const LENGTHS = [1, 2, 3, 4, 5, 6];
const LAST = [0x7f, 0x7ff, 0xffff, 0x1fffff, 0x3ffffff, 0x7fffffff]; // of the form of n + 1 bytes
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
const natural = (number) => form(number, LAST.findIndex((last) => number <= last) + 1);
const join = (...parts) => Buffer.concat(parts.map((p) => (typeof p === 'string' ? Buffer.from(p) : p)));
const bytes = (...numbers) => Buffer.from(numbers);

export const KOSME = join(...[0x3ba, 0x1f79, 0x3c3, 0x3bc, 0x3b5].map(natural));
const SURROGATES = { high: [0xd800, 0xdb7f, 0xdb80, 0xdbff], low: [0xdc00, 0xdfff] };
const CUT_SHORT = [...LENGTHS.slice(1).map((n) => form(0, n)), ...LENGTHS.slice(1).map((n) => form(LAST[n - 1], n))].map((b) => b.subarray(0, -1));
const continuations = (n) => bytes(...range(1, n).map((i) => (i % 2 ? 0x80 : 0xbf)));

// The sub-sections 6.5 to 6.23.
export const VECTORS = [
  ['some valid texts', [...[0x24, 0xa2, 0x20ac, 0x24b62].map((c) => join('hello', natural(c), 'world')), KOSME]],
  ['every beginning of a valid text', range(1, KOSME.length).map((n) => KOSME.subarray(0, n))],
  ['the first of each length', [form(0, 1), ...LENGTHS.slice(1, 4).map((n) => form(LAST[n - 2] + 1, n))]],
  ['the first of five and six bytes', [5, 6].map((n) => form(LAST[n - 2] + 1, n))],
  ['the last of each length', [form(LAST[0], 1), form(LAST[1], 2), form(LAST[2], 3), form(0x10ffff, 4)]],
  ['the last of four, five and six bytes', [4, 5, 6].map((n) => form(LAST[n - 1], n))],
  ['other borders', [0xd7ff, 0xe000, 0xfffd, 0x10ffff, 0x110000].map(natural)],
  ['continuation bytes that continue nothing', [bytes(0x80), bytes(0xbf), ...range(2, 6).map(continuations), bytes(...range(0x80, 0xbe))]],
  ['lonely first bytes', [[0xc0, 0xdf], [0xe0, 0xef], [0xf0, 0xf7], [0xf8, 0xfb], [0xfc, 0xfd]].map(([from, to]) => bytes(...range(from, to).flatMap((b) => [b, 0x20])))],
  ['the last byte missing', CUT_SHORT],
  ['those joined', [join(...CUT_SHORT)]],
  ['impossible bytes', [bytes(0xfe), bytes(0xff), bytes(0xfe, 0xfe, 0xff, 0xff)]],
  ['overlong slashes', LENGTHS.slice(1).map((n) => form(0x2f, n))],
  ['the largest overlong of each length', LENGTHS.slice(1).map((n) => form(LAST[n - 2], n))],
  ['overlong NUL', LENGTHS.slice(1).map((n) => form(0, n))],
  ['single surrogates', [...SURROGATES.high, 0xdc00, 0xdf80, 0xdfff].map(natural)],
  ['paired surrogates', SURROGATES.high.flatMap((high) => SURROGATES.low.map((low) => join(natural(high), natural(low))))],
  ['non-characters, which are valid', range(0, 16).flatMap((plane) => [plane * 0x10000 + 0xfffe, plane * 0x10000 + 0xffff]).map(natural)],
  ['specials, which are valid', range(0xfff9, 0xffff).map(natural)],
];

// What may follow a first byte: the bounds of each byte behind it (RFC 3629 section 4).
function tails(first) {
  const any = [0x80, 0xbf];
  if (first <= 0x7f) return [];
  if (first >= 0xc2 && first <= 0xdf) return [any];
  if (first === 0xe0) return [[0xa0, 0xbf], any];
  if (first === 0xed) return [[0x80, 0x9f], any];
  if (first >= 0xe1 && first <= 0xef) return [any, any];
  if (first === 0xf0) return [[0x90, 0xbf], any, any];
  if (first === 0xf4) return [[0x80, 0x8f], any, any];
  if (first >= 0xf1 && first <= 0xf3) return [any, any, any];
  return null;
}

// {valid}, {bad: index of the first byte after which no text can be valid} or {unfinished}.
export function judge(text) {
  for (let i = 0; i < text.length; ) {
    const rest = tails(text[i]);
    if (!rest) return { bad: i };
    i++;
    for (const [low, high] of rest) {
      if (i === text.length) return { unfinished: true };
      if (text[i] < low || text[i] > high) return { bad: i };
      i++;
    }
  }
  return { valid: true };
}
