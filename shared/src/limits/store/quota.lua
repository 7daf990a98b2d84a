-- A part of the quota of a day. KEYS[2]: "used most", the last of them for people. ARGV[3]: the quota; ARGV[4]: how many, or so many back if
-- below zero; ARGV[5]: 1 if they were used already.
if not lives(me) then return {-1} end
local most, units = tonumber(ARGV[3]), tonumber(ARGV[4])
local known, of = string.match(redis.call('GET', KEYS[2]) or '', '^(%d+) ?(%d*)')
local used = tonumber(known) or 0
local given = units
if units > 0 and ARGV[5] ~= '1' then given = math.max(math.min(units, most - used), 0) end
used = math.max(used + given, 0)
-- Who tells what was used does not say how many there may be.
if ARGV[5] ~= '1' then of = ARGV[3] end
redis.call('SET', KEYS[2], string.format('%.0f %s', used, of or ''), 'PX', 172800000)
return {0, math.max(given, 0)}
