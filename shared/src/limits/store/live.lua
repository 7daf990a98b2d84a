-- A node says that it lives. KEYS[2]: the epoch. ARGV[3]: how long it does, in microseconds; ARGV[4]: 1 to become known.
if ARGV[4] ~= '1' and not lives(me) then return {-1} end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('(%.0f', now))
redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[3])), me)
redis.call('PEXPIRE', KEYS[1], 86400000)
redis.call('SET', KEYS[2], string.format('%.0f', now), 'NX')
redis.call('PERSIST', KEYS[2])
local epoch = tonumber(redis.call('GET', KEYS[2]))
return {redis.call('ZCARD', KEYS[1]), epoch, math.max(now - epoch, 0)}
