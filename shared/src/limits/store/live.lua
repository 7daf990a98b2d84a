-- A node says that it lives. KEYS[2]: the epoch. ARGV[3]: how long it does, in microseconds; ARGV[4]: 1 to become known.
if ARGV[4] ~= '1' and not lives(me) then return {-1} end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now))
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[3])), me)
redis.call('PEXPIRE', KEYS[1], 86400000)
redis.call('SET', KEYS[2], string.format('%.0f', now), 'NX')
redis.call('PERSIST', KEYS[2])
local epoch = tonumber(redis.call('GET', KEYS[2]))
-- To one that becomes known, how many come before it by their names: so all of them stand evenly spaced.
local before = -1
if ARGV[4] == '1' then
  before = 0
  for _, node in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    if node < me then before = before + 1 end
  end
end
return {redis.call('ZCARD', KEYS[1]), epoch, math.max(now - epoch, 0), before}
