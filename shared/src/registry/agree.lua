-- Agrees on which day addresses were there first. KEYS[1]: a version, another one whenever a day becomes earlier than
-- somebody may know it; from KEYS[2] on the first day of each address.
-- ARGV[1]: the day as the node has it; ARGV[2]: how long a day is kept, in milliseconds; then for each address its first
-- day as the node knows it, or -1, and for how many milliseconds it was not there.
-- Returns the version before and now, the day, and the first day of each address; the version -1 and the day alone if
-- the clocks differ by so much that neither day is to be believed: then nothing is kept.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local today, keep = math.floor(now / 86400000), tonumber(ARGV[2])
if math.abs(today - tonumber(ARGV[1])) > 1 then return {-1, -1, today} end
local before = tonumber(redis.call('GET', KEYS[1]) or '0')
local is_news = before == 0
local firsts = {}
for at = 2, #KEYS do
  local told, left = tonumber(ARGV[at * 2 - 1]), keep - tonumber(ARGV[at * 2])
  local known, first = tonumber(redis.call('GET', KEYS[at]) or '-1'), today
  if known >= 0 then first = math.min(first, known) end
  if told >= 0 and left > 0 then first = math.min(first, told) end
  -- Who knew a later day, from a Redis that had lost this one, asks again.
  if first < (known >= 0 and known or today) then is_news = true end
  local life = math.max(left, redis.call('PTTL', KEYS[at]))
  if life > 0 then redis.call('SET', KEYS[at], string.format('%.0f', first), 'PX', string.format('%.0f', life)) end
  firsts[#firsts + 1] = first
end
-- Higher than all before it, also than those of a server that has lost its memory.
local version = is_news and math.max(now, before + 1) or before
redis.call('SET', KEYS[1], string.format('%.0f', version), 'PX', string.format('%.0f', keep))
return {before, version, today, unpack(firsts)}
