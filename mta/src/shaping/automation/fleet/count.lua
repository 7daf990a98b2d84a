-- Counts an answer. KEYS[1]: the times of those before, as a sorted set.
-- ARGV[1]: the window in milliseconds; ARGV[2]: how many are of interest; ARGV[3]: tells it from others of this moment.
local window, most = tonumber(ARGV[1]), tonumber(ARGV[2])
local at = string.format('%.0f', micros)
redis.call('ZADD', KEYS[1], at, at .. ' ' .. ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', micros - window * 1000))
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, string.format('%.0f', -(most + 1)))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', window + 1000))
return redis.call('ZCARD', KEYS[1])
