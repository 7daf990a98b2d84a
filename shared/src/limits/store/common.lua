-- What all scripts share. KEYS[1]: the nodes that live, with the time until which they do.
-- ARGV[1]: this node; ARGV[2]: the time in microseconds, or empty for that of the server.
local me = ARGV[1]
local now
if ARGV[2] == '' then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000000 + tonumber(time[2])
else
  now = tonumber(ARGV[2])
end
-- Until when a node lives, if it does.
local function lives(node)
  local till = tonumber(redis.call('ZSCORE', KEYS[1], node) or 0)
  return till > now and till
end
