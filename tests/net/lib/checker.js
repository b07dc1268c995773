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
