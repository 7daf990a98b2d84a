-- What there is in a shard. KEYS[1]: the nodes that live; ARGV[3]: a pattern of keys; ARGV[4]: how many at most.
local told, cursor, rounds = {}, '0', 0
local most = tonumber(ARGV[4])
local nodes = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('%.0f', now), '+inf')
repeat
  local found = redis.call('SCAN', cursor, 'MATCH', ARGV[3], 'COUNT', 1000)
  cursor = found[1]
  for _, key in ipairs(found[2]) do
    if #told < most then
      local kind = redis.call('TYPE', key).ok
      if kind == 'hash' then
        told[#told + 1] = {key, redis.call('HGETALL', key)}
      elseif kind == 'string' then
        told[#told + 1] = {key, {redis.call('GET', key)}}
      end
    end
  end
  rounds = rounds + 1
until cursor == '0' or rounds >= 100 or #told >= most
return {string.format('%.0f', now), nodes, told}
