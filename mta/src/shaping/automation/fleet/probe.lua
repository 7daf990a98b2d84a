-- Who probes a path. KEYS[1]: the orders; KEYS[2]: who does, or "proven".
-- ARGV[1]: the name of an order that suspends it; ARGV[2]: who asks, or "proven"; ARGV[3]: for how long that holds.
-- Returns 1 if that is so now, 2 if the path was proven, 0 if it is another node's matter or suspended.
local order = redis.call('HGET', KEYS[1], ARGV[1])
if order then
  local _, expires, ended = read(order)
  if ended == '0' and expires > now then return 0 end
end
local who = redis.call('GET', KEYS[2])
if who and who ~= ARGV[2] and ARGV[2] ~= 'proven' then
  if who == 'proven' then return 2 end
  return 0
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 1
