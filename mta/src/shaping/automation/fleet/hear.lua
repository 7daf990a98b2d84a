-- What is in force. KEYS[1]: the orders; KEYS[2]: their version. ARGV[1]: the version that is known.
-- Returns the version, the time, and, if it is another version, all orders: when each ends, whether it was ended, what it is.
local version = redis.call('GET', KEYS[2]) or '0'
if version == ARGV[1] then return {tonumber(version), now} end
local told, all = {}, redis.call('HGETALL', KEYS[1])
for at = 2, #all, 2 do
  local _, expires, ended = read(all[at])
  if expires > now then
    told[#told + 1] = {expires, tonumber(ended), string.match(all[at], '^%d+ %d+ [01] (.*)$')}
  end
end
return {tonumber(version), now, told}
