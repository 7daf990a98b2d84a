-- A part of the quota of a day. KEYS[2]: "used most", the last of them for people. ARGV[3]: the quota; ARGV[4]: how many, or so many back if
-- below zero; ARGV[5]: 1 if they were used already.
if not lives(me) then return {-1} end
local most, units = tonumber(ARGV[3]), tonumber(ARGV[4])
local used = tonumber(string.match(redis.call('GET', KEYS[2]) or '', '^%d+')) or 0
local given = units
if units > 0 and ARGV[5] ~= '1' then given = math.max(math.min(units, most - used), 0) end
used = math.max(used + given, 0)
redis.call('SET', KEYS[2], string.format('%.0f %s', used, ARGV[3]), 'PX', 172800000)
return {0, math.max(given, 0)}
