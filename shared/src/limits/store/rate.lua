-- Keeps the next times of a rate free for a node. KEYS[2]: the rate.
-- ARGV[3]: the interval in microseconds; ARGV[4]: the burst; ARGV[5]: how many times, or so many back if below
-- zero; ARGV[6]: empty, or they were used already, and this is how many are used then, at least.
if not lives(me) then return {-1} end
local interval, burst, tokens = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local known = redis.call('HMGET', KEYS[2], 'tat', 'interval')
local tat = tonumber(known[1]) or 0
local old = tonumber(known[2])
if old and known[2] ~= ARGV[3] and tat > now then
  -- Another rate: what was used of the old budget is used of the new one, up to a burst.
  tat = now + math.min((tat - now) / old, burst) * interval
end
local base = math.max(tat, now)
local first, granted = 0, 0
if tokens > 0 then
  first = base + interval - burst * interval - now
  granted = tokens
  if ARGV[6] == '' then
    -- Times that are far off are kept for one message each, so that other nodes have their turns between them.
    granted = math.min(tokens, math.floor((math.max(first, 0) + 200000 - first) / interval) + 1)
  end
  tat = base + granted * interval
else
  tat = math.max(tat + tokens * interval, 0)
end
if ARGV[6] ~= '' then tat = math.max(tat, now + tonumber(ARGV[6]) * interval) end
redis.call('HSET', KEYS[2], 'tat', string.format('%.1f', tat), 'interval', ARGV[3], 'burst', ARGV[4])
redis.call('PEXPIRE', KEYS[2], math.max(math.ceil((tat - now) / 1000), 0) + 60000)
return {0, granted, math.floor(first)}
