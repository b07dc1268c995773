// wait.js - waiting for conditions. The guard only ends a wait that has failed; no test passes by it.

export const GUARD_MS = Number(process.env.CRIER_TEST_GUARD_MS) || 30000;

export function guard(promise, what, ms = GUARD_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms in vain for ${typeof what === 'function' ? what() : what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// Asks again and again until `condition` gives something truthy, which is returned.
export async function until(condition, what, ms = GUARD_MS) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${ms} ms in vain until ${typeof what === 'function' ? what() : what}`);
    await pause(15);
  }
}

// What arrived and was not asked for yet, in order.
export class Queue {
  constructor(what) {
    this.what = what;
    this.items = [];
    this.waiting = [];
    this.ended = null;
  }
  push(item) {
    if (this.sink) return this.sink(item);
    const waiter = this.waiting.shift();
    if (waiter) waiter.resolve(item);
    else this.items.push(item);
    return undefined;
  }
  // From here on what comes is given to `sink` at once, and what is there already; `ended` hears
  // of the end. Costs no promise per item.
  flow(sink, ended) {
    this.sink = sink;
    for (const item of this.items.splice(0)) sink(item);
    this.onEnd = ended;
    if (this.ended) ended(this.ended);
  }
  end(error) {
    this.ended = error || new Error(`${this.what} ended`);
    this.onEnd?.(this.ended);
    for (const waiter of this.waiting.splice(0)) waiter.reject(this.ended);
  }
  next(what = `something from ${this.what}`) {
    if (this.items.length) return Promise.resolve(this.items.shift());
    if (this.ended) return Promise.reject(this.ended);
    return guard(new Promise((resolve, reject) => this.waiting.push({ resolve, reject })), what);
  }
  async take(n) {
    const out = [];
    while (out.length < n) out.push(await this.next(() => `item ${out.length + 1} of ${n} from ${this.what}`));
    return out;
  }
  // Everything up to and with the first item that fits.
  async upTo(fits, what = 'the awaited item') {
    const out = [];
    do out.push(await this.next(() => `${what} from ${this.what} (after ${JSON.stringify(out.slice(-3))})`));
    while (!fits(out[out.length - 1]));
    return out;
  }
}

// Cleanups run in reverse: clients leave before their server is asked to end, so that no test
// waits for a drain that it did not ask for.
const endings = new WeakMap();
export function atEnd(t, action) {
  if (!endings.has(t)) {
    const actions = [];
    endings.set(t, actions);
    t.after(async () => {
      let failure;
      for (const one of actions.reverse()) {
        try {
          await one();
        } catch (e) {
          failure ??= e;
        }
      }
      if (failure) throw failure;
    });
  }
  endings.get(t).push(action);
}
