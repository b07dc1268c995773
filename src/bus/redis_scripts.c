/* redis_scripts.c - what the Redis bus has carried out atomically, in Lua.
 *
 * The order of a channel survives what the server survives. Two things can go wrong with it, and
 * both are seen here: META is gone (flush, eviction, age) and an order begins anew in another
 * epoch; or `server` is not the one that wrote last (restart, failover, moved slot), and the
 * messages the old one may have had beyond ours must not be confused with those that come: another
 * epoch goes on counting, and `line` remembers where the old one ended.
 *
 * The common case is five calls (HMGET, TIME, XADD, HSET, PUBLISH); ages are looked after now and
 * then (`care`), so what is older than it should be may stand in a stream for an eighth of that age
 * and is left out by who reads.
 */
#include "redis_scripts.h"

/* How many of the first `n` entries are older than `age`; entries say their own time. */
#define LUA_COUNT_OLD                                                            \
    "local function old(stream, now, age)\n"                                     \
    "  local n, from = 0, '-'\n"                                                 \
    "  while true do\n"                                                          \
    "    local step = n == 0 and 1 or 100\n"                                     \
    "    local found = redis.call('XRANGE', stream, from, '+', 'COUNT', step)\n" \
    "    for _, entry in ipairs(found) do\n"                                     \
    "      local time = string.match(entry[2][2], '^%d+ %d+ (%d+)')\n"           \
    "      if time and tonumber(time) + age > now then return n end\n"           \
    "      n = n + 1\n"                                                          \
    "      from = string.match(entry[1], '^(%d+)')\n"                            \
    "      from = string.format('%.0f', tonumber(from) + 1)\n"                   \
    "    end\n"                                                                  \
    "    if #found < step then return n end\n"                                   \
    "  end\n"                                                                    \
    "end\n"

#define LUA_NOW                          \
    "local clock = redis.call('TIME')\n" \
    "local now = clock[1] * 1000 + math.floor(clock[2] / 1000)\n"

/* Ends the epoch where the server turns out to have less than was given out, or marks the end of
 * the epoch that had more. Entries of `line` are "EPOCH:LAST ", with "!", "?" or "!?" before the
 * blank (lineage.h); who stands in the epoch that is current when a loss is found late may not know
 * of it, so that one ends too. What is kept is of epochs that are remembered: who got a page of
 * others could not ask for the next one. */
#define LUA_WITNESS                                                                               \
    "local function end_epoch(meta, stream, line, epoch, offset, mark, fresh, server)\n"          \
    "  line = line .. epoch .. ':' .. offset .. mark .. ' '\n"                                    \
    "  local _, n = string.gsub(line, ' ', ' ')\n"                                                \
    "  while n > 32 do\n"                                                                         \
    "    local last = string.match(line, '^%d+:(%d+)')\n"                                         \
    "    if stream then\n"                                                                        \
    "      redis.call('XTRIM', stream, 'MINID', string.format('%.0f', last + 1))\n"               \
    "    end\n"                                                                                   \
    "    line = string.gsub(line, '^%S+ ', '', 1)\n"                                              \
    "    n = n - 1\n"                                                                             \
    "  end\n"                                                                                     \
    "  redis.call('HSET', meta, 'epoch', fresh, 'server', server, 'line', line)\n"                \
    "  return fresh, line\n"                                                                      \
    "end\n"                                                                                       \
    "local function witness(meta, stream, epoch, offset, line, known, fresh, server)\n"           \
    "  for e, at in string.gmatch(known, '(%d+):(%d+)') do\n"                                     \
    "    if e == epoch then\n"                                                                    \
    "      if tonumber(at) <= tonumber(offset) then return epoch, line, false end\n"              \
    "      epoch, line = end_epoch(meta, stream, line, epoch, offset, '!', fresh, server)\n"      \
    "      return epoch, line, true\n"                                                            \
    "    end\n"                                                                                   \
    "    local last, lost = string.match(' ' .. line, ' ' .. e .. ':(%d+)(!?)')\n"                \
    "    if last then\n"                                                                          \
    "      if lost == '!' or tonumber(at) <= tonumber(last) then return epoch, line, false end\n" \
    "      local past, since = string.match(' ' .. line, '^(.* ' .. e .. ':' .. last .. "         \
    "')(.*)$')\n"                                                                                 \
    "      since = string.gsub(since, '(%d+:%d+!?) ', '%1? ')\n"                                  \
    "      line = string.sub(past, 2) .. '!' .. since\n"                                          \
    "      epoch, line = end_epoch(meta, stream, line, epoch, offset, '?', fresh, server)\n"      \
    "      return epoch, line, true\n"                                                            \
    "    end\n"                                                                                   \
    "  end\n"                                                                                     \
    "  return epoch, line, false\n"                                                               \
    "end\n"

/* Idempotency keys are fields of META, so that a publish needs no key that is not there yet: while
 * a slot moves, Redis Cluster refuses commands of which one key is there and another is not. There
 * are 6 other fields. Those too old go, and a quarter of the oldest when there are more than
 * `most`.
 */
#define LUA_FORGET_KEYS                                                                           \
    "local function forget_keys(meta, before, most)\n"                                            \
    "  if redis.call('HLEN', meta) <= 6 then return end\n"                                        \
    "  local all, kept = redis.call('HGETALL', meta), {}\n"                                       \
    "  for i = 1, #all, 2 do\n"                                                                   \
    "    if string.sub(all[i], 1, 4) == 'key:' then\n"                                            \
    "      local since = tonumber(string.match(all[i + 1], '(%d+)$') or 0)\n"                     \
    "      if since <= before then redis.call('HDEL', meta, all[i])\n"                            \
    "      else kept[#kept + 1] = {since, all[i]} end\n"                                          \
    "    end\n"                                                                                   \
    "  end\n"                                                                                     \
    "  if #kept <= most then return end\n"                                                        \
    "  table.sort(kept, function(a, b) return a[1] < b[1] end)\n"                                 \
    "  for i = 1, #kept - math.floor(most * 3 / 4) do redis.call('HDEL', meta, kept[i][2]) end\n" \
    "end\n"

/* clang-format off */
struct redis_script script_publish = {.text =
    LUA_COUNT_OLD
    LUA_WITNESS
    LUA_FORGET_KEYS
    "local meta, stream = KEYS[1], KEYS[2]\n"
    "local server, fresh, keep, age, rest = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])\n"
    "local known_for, field = tonumber(ARGV[10]), ARGV[12] and 'key:' .. ARGV[12]\n"
    LUA_NOW
    "local was = field and redis.call('HGET', meta, field)\n"
    "if was then\n"
    "  local digest, at, since = string.match(was, '^(%S+) (%d+ %d+) (%d+)$')\n"
    "  if digest and tonumber(since) + known_for > now then\n"
    "    if digest ~= ARGV[13] then return 'conflict' end\n"
    "    return 'repeated ' .. at\n"
    "  end\n"
    "end\n"
    "local m = redis.call('HMGET', meta, 'epoch', 'offset', 'time', 'server', 'care', 'line')\n"
    "local epoch, offset, time, care = m[1], tonumber(m[2] or nil), tonumber(m[3] or 0), tonumber(m[5] or 0)\n"
    "local before, line = epoch, m[6] or ''\n"
    "if not epoch or not offset then\n"
    "  redis.call('DEL', meta)\n"
    "  if stream then redis.call('DEL', stream) end\n"
    "  epoch, before, line, offset, time, care = fresh, fresh, '', 0, 0, 0\n"
    "  redis.call('HSET', meta, 'epoch', epoch, 'server', server)\n"
    "else\n"
    "  local lost\n"
    "  epoch, line, lost = witness(meta, stream, epoch, m[2], line, ARGV[9], fresh, server)\n"
    "  before = epoch\n"
    "  if lost then redis.call(ARGV[6], ARGV[7], 'lost') end\n"
    "  if m[4] ~= server and epoch ~= fresh then\n"
    "    epoch, line = end_epoch(meta, stream, line, epoch, m[2], '', fresh, server)\n"
    "  end\n"
    "end\n"
    "if time < now then time = now end\n"
    "offset = offset + 1\n"
    "local at = epoch .. ' ' .. string.format('%.0f', offset)\n"
    "local head = at .. ' ' .. string.format('%.0f', time) .. ' ' .. before\n"
    "local text = head .. ' ' .. ARGV[8]\n"
    "if stream then\n"
    "  local added = redis.pcall('XADD', stream, 'MAXLEN', keep, string.format('%.0f-0', offset), 'm', text)\n"
    "  if type(added) == 'table' and added.err then\n"
    "    if not string.find(added.err, 'smaller') then return redis.error_reply(added.err) end\n"
    "    redis.call('DEL', meta, stream)\n"
    "    return 'again'\n"
    "  end\n"
    "end\n"
    "redis.call('HSET', meta, 'offset', string.format('%.0f', offset), 'time', string.format('%.0f', time))\n"
    "local span = math.floor(math.min(age > 0 and age or rest, rest) / 8)\n"
    "if now >= care or care > now + span then\n"
    "  if stream then\n"
    "    local n = old(stream, now, age)\n"
    "    if n > 0 then redis.call('XTRIM', stream, 'MAXLEN', redis.call('XLEN', stream) - n) end\n"
    "    redis.call('PEXPIRE', stream, string.format('%.0f', age + 2 * span + 1000))\n"
    "  end\n"
    "  redis.call('HSET', meta, 'care', string.format('%.0f', now + span))\n"
    "  redis.call('PEXPIRE', meta, ARGV[5])\n"
    "  forget_keys(meta, now - known_for, tonumber(ARGV[11]))\n"
    "end\n"
    "if field then\n"
    "  redis.call('HSET', meta, field, ARGV[13] .. ' ' .. at .. ' ' .. string.format('%.0f', now))\n"
    "  if redis.call('HLEN', meta) > tonumber(ARGV[11]) + 7 then forget_keys(meta, now - known_for, tonumber(ARGV[11])) end\n"
    "end\n"
    "redis.call(ARGV[6], ARGV[7], text)\n"
    "if line == '' or string.match(ARGV[9], '^%d+') == epoch then return head end\n"
    "return head .. ' ' .. line\n"};

struct redis_script script_read = {.text =
    LUA_WITNESS
    "local meta, stream = KEYS[1], KEYS[2]\n"
    LUA_NOW
    "local m = redis.call('HMGET', meta, 'epoch', 'offset', 'line')\n"
    "local found, lost = {}, false\n"
    "if not m[1] or not m[2] then\n"
    "  redis.call('DEL', meta)\n"
    "  if stream then redis.call('DEL', stream) end\n"
    "  redis.call('HSET', meta, 'epoch', ARGV[2], 'offset', 0, 'server', ARGV[1])\n"
    "  redis.call('PEXPIRE', meta, ARGV[3])\n"
    "  m = {ARGV[2], '0', ''}\n"
    "else\n"
    "  m[1], m[3], lost = witness(meta, stream, m[1], m[2], m[3] or '', ARGV[9], ARGV[2], ARGV[1])\n"
    "end\n"
    "if lost then redis.call(ARGV[7], ARGV[8], 'lost') end\n"
    "if ARGV[4] == 'f' then\n"
    "  found = redis.call('XRANGE', stream, ARGV[5], '+', 'COUNT', ARGV[6])\n"
    "elseif ARGV[4] == 'b' then\n"
    "  found = redis.call('XREVRANGE', stream, ARGV[5], '-', 'COUNT', ARGV[6])\n"
    "end\n"
    "return {m[1], m[2], m[3] or '', string.format('%.0f', now), found}\n"};

struct redis_script script_clear = {.text =
    "local n = redis.call('XLEN', KEYS[2])\n"
    "local m = redis.call('HMGET', KEYS[1], 'epoch', 'offset')\n"
    "local notice = 'clear ' .. (m[1] or '0') .. ' ' .. (m[2] or '0')\n"
    "if n > 0 then\n"
    "  redis.call('DEL', KEYS[2])\n"
    "  redis.call('HDEL', KEYS[1], 'care')\n"
    "  redis.call(ARGV[1], ARGV[2], notice)\n"
    "end\n"
    "return {n, notice}\n"};

struct redis_script script_describe = {.text =
    LUA_COUNT_OLD
    LUA_NOW
    "local m = redis.call('HMGET', KEYS[1], 'epoch', 'offset')\n"
    "if not m[1] or not m[2] then return {'0', '0', 0} end\n"
    "local n = redis.call('XLEN', KEYS[2])\n"
    "if n > 0 then n = n - old(KEYS[2], now, tonumber(ARGV[1])) end\n"
    "return {m[1], m[2], n}\n"};

struct redis_script script_tell = {.text =
    "local names, counts, life = KEYS[1], KEYS[2], ARGV[1]\n"
    "for i = 2, #ARGV, 2 do\n"
    "  if ARGV[i + 1] == '0' then\n"
    "    redis.call('ZREM', names, ARGV[i])\n"
    "    redis.call('HDEL', counts, ARGV[i])\n"
    "  else\n"
    "    redis.call('ZADD', names, 0, ARGV[i])\n"
    "    redis.call('HSET', counts, ARGV[i], ARGV[i + 1])\n"
    "  end\n"
    "end\n"
    "redis.call('PEXPIRE', names, life)\n"
    "redis.call('PEXPIRE', counts, life)\n"
    "return #ARGV\n"};

struct redis_script script_beat = {.text =
    LUA_NOW
    "local id, life, forget = ARGV[1], ARGV[2], ARGV[3]\n"
    "local known = redis.call('ZSCORE', KEYS[1], id)\n"
    "redis.call('ZADD', KEYS[1], string.format('%.0f', now), id)\n"
    "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - life))\n"
    "redis.call('PEXPIRE', KEYS[1], life)\n"
    "if forget == '1' then redis.call('DEL', KEYS[2], KEYS[3]) end\n"
    "redis.call('PEXPIRE', KEYS[2], life)\n"
    "redis.call('PEXPIRE', KEYS[3], life)\n"
    "local n = redis.call('HLEN', KEYS[3])\n"
    "return known and n or -1 - n\n"};

/* In Cluster all keys made here are in the slot of KEYS[1], by the same hash tag. */
#define LUA_OTHERS                                                                           \
    LUA_NOW                                                                                  \
    "local base, own, alive = ARGV[1], ARGV[2], ARGV[3]\n"                                   \
    "local others = {}\n"                                                                    \
    "for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], "                              \
    "string.format('(%.0f', now - alive), '+inf')) do\n"                                     \
    "  if id ~= own then others[#others + 1] = id end\n"                                     \
    "end\n"

/* A name of the first so many of all is among the first so many of each who has it, so each one's
 * page says all that there is to add up. */
struct redis_script script_list = {.text =
    LUA_OTHERS
    "local names, sum, out = {}, {}, {}\n"
    "for _, id in ipairs(others) do\n"
    "  local page = redis.call('ZRANGEBYLEX', base .. ':names:' .. id, ARGV[4], ARGV[5], 'LIMIT', 0, ARGV[6])\n"
    "  local counts = #page > 0 and redis.call('HMGET', base .. ':counts:' .. id, unpack(page))\n"
    "  for i, name in ipairs(page) do\n"
    "    if not sum[name] then names[#names + 1] = name end\n"
    "    sum[name] = (sum[name] or 0) + (tonumber(counts[i] or 0) or 0)\n"
    "  end\n"
    "end\n"
    "for i, name in ipairs(names) do out[2 * i - 1], out[2 * i] = name, sum[name] end\n"
    "return out\n"};

struct redis_script script_count = {.text =
    LUA_OTHERS
    "local n = 0\n"
    "for _, id in ipairs(others) do\n"
    "  n = n + (tonumber(redis.call('HGET', base .. ':counts:' .. id, ARGV[4]) or 0) or 0)\n"
    "end\n"
    "return {n}\n"};
/* clang-format on */

struct redis_script *const redis_scripts[] = {
    &script_publish, &script_read, &script_clear, &script_describe,
    &script_tell,    &script_beat, &script_list,  &script_count,
};
const size_t n_redis_scripts = sizeof redis_scripts / sizeof redis_scripts[0];
