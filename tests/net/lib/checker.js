// checker.js - judges what one client received against what was published.
//
// `published` is the order of the channel, `received` what a client got, both lists of ids (or
// anything else that compares with ===). Faults are named, not only counted, so that a failing
// run says what went wrong.

export function judge(published, received) {
  const place = new Map(published.map((id, i) => [id, i]));
  const faults = [];
  const seen = new Set();
  let highest = -1;
  received.forEach((id, i) => {
    const at = place.get(id);
    if (at === undefined) faults.push({ fault: 'unknown', id, at: i });
    else if (seen.has(id)) faults.push({ fault: 'repeated', id, at: i });
    else {
      if (at < highest) faults.push({ fault: 'reordered', id, at: i });
      highest = Math.max(highest, at);
      seen.add(id);
    }
  });
  published.forEach((id, i) => seen.has(id) || faults.push({ fault: 'lost', id, at: i }));
  return faults;
}

const DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const number = (text) => [...text].reduce((n, c) => n * 64 + DIGITS.indexOf(c), 0);

// What an id is made of (include/crier/cursor.h). Clients must not look; judges may.
export function parts(id) {
  return { tag: id.slice(0, 4), epoch: number(id.slice(4, 9)), offset: number(id.slice(9)) };
}

// Where in `order` something that is not in it was lost: the last message that it came after.
function placeOf(id, positions, rank) {
  const { epoch, offset } = parts(id);
  const r = rank(epoch);
  return positions.findLastIndex((p) => (p.epoch === epoch ? p.offset < offset : rank(p.epoch) < r));
}

// The judge for servers that may lose acknowledged messages (failover, flush): nothing may be
// missing, or be there that the order does not know, without a gap at that place: told there, or
// naming it (`since`).
//
// order: ids of what is kept in the end, all of it. acknowledged: ids of all that was acknowledged,
// kept or lost. record: ids and {gap} in the order in which a client that was there from the
// beginning got them. rank: the epochs' order in time. Gives {faults, gaps, excused, missed}.
export function judgeAnnounced(order, acknowledged, record, rank) {
  const place = new Map(order.map((id, i) => [id, i]));
  const positions = order.map(parts);
  const known = new Set(acknowledged);
  const faults = [];
  const seen = new Set();
  const lastOf = (id) => place.get(id) ?? placeOf(id, positions, rank);
  const announced = []; // stretches of the order (from, to) in which a gap was told
  let at = -1; // in the order, of the newest message
  let gap = false; // told since then
  let astray = null; // a message since then that the order does not have
  const arrive = (i, id) => {
    if (gap) announced.push([at, i]);
    else if (astray) faults.push({ fault: 'unannounced', id, after: astray });
    if (!gap) for (let k = at + 1; k < i; k++) faults.push({ fault: 'lost', id: order[k], at: k });
    at = i;
    gap = false;
    astray = null;
  };
  let gaps = 0;
  record.forEach((item, n) => {
    if (item.gap) {
      gap = true;
      gaps++;
      // A loss that is found late is told late, but for its place.
      if (item.gap.since) announced.push([lastOf(item.gap.since), Math.max(lastOf(item.gap.cursor), lastOf(item.gap.since) + 1)]);
      return;
    }
    if (seen.has(item)) faults.push({ fault: 'repeated', id: item, at: n });
    seen.add(item);
    const i = place.get(item);
    if (i !== undefined && i > at) arrive(i, item);
    else if (i !== undefined) faults.push({ fault: 'reordered', id: item, at: n });
    else astray = item;
  });
  arrive(order.length, 'the end');
  let excused = 0; // lost, or never received though kept
  let missed = 0; // of these: kept
  for (const id of known) {
    if (seen.has(id)) continue;
    const i = lastOf(id);
    const inOrder = place.has(id);
    // A kept message is judged by arrive(); a lost one must lie in a stretch with a gap.
    const told = announced.some(([from, to]) => (inOrder ? from < i && i < to : from <= i && i < to));
    if (told) {
      excused++;
      if (inOrder) missed++;
    }
    if (!told && !inOrder) faults.push({ fault: 'lost unannounced', id, after: order[i] });
  }
  return { faults, gaps, excused, missed };
}

// No id may ever name two messages: what every publisher was answered and every client received.
export class Names {
  constructor() {
    this.data = new Map();
    this.conflicts = [];
    this.orders = new Map(); // "TAG EPOCH" by the time at which it was first heard of
  }
  note(id, data) {
    const before = this.data.get(id);
    if (before === undefined) {
      this.data.set(id, data);
      const { tag, epoch } = parts(id);
      const order = `${tag} ${epoch}`;
      if (!this.orders.has(order)) this.orders.set(order, this.orders.size);
    } else if (before !== data) {
      this.conflicts.push({ id, before, data });
    }
  }
  // For judgeAnnounced.
  rank(tag) {
    return (epoch) => this.orders.get(`${tag} ${epoch}`);
  }
}
