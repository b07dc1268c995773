// status.js - the server's state in the page header, from /stats, and which HTTP the browser speaks
// with it. (Of streams that are still open, and of WebSockets, it does not tell a page.)

const EVERY_MS = 5000;
const HTTP = { 'http/1.0': 'HTTP/1.0', 'http/1.1': 'HTTP/1.1', h2: 'HTTP/2', h2c: 'HTTP/2', h3: 'HTTP/3' };

function duration(seconds) {
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

function show(state, text) {
  document.getElementById('status').dataset.state = state;
  document.getElementById('status-text').textContent = text;
}

export async function refreshStatus(onStats) {
  const giveUp = new AbortController();
  const timer = setTimeout(() => giveUp.abort(), EVERY_MS - 500);
  try {
    const answer = await fetch('/stats', { signal: giveUp.signal, cache: 'no-store' });
    if (!answer.ok) throw new Error(String(answer.status));
    const stats = await answer.json();
    const n = stats.total_connections;
    onStats?.(stats);
    show('ok', `${n} ${n === 1 ? 'listener' : 'listeners'} · up ${duration(stats.uptime_seconds)} · ${stats.version}`);
  } catch {
    show('away', 'server not reachable');
  } finally {
    clearTimeout(timer);
  }
}

function showProtocol(entries) {
  const last = entries.filter((e) => e.nextHopProtocol).pop();
  if (!last) return;
  const chip = document.getElementById('protocol');
  chip.textContent = HTTP[last.nextHopProtocol] || last.nextHopProtocol;
  chip.hidden = false;
}

export function watchStatus(onStats) {
  for (const type of ['navigation', 'resource']) new PerformanceObserver((list) => showProtocol(list.getEntries())).observe({ type, buffered: true });
  refreshStatus(onStats);
  // A hidden page must not keep one of the browser's six connections to this host busy.
  setInterval(() => document.hidden || refreshStatus(onStats), EVERY_MS);
  document.addEventListener('visibilitychange', () => document.hidden || refreshStatus(onStats));
}
