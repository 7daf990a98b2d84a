-- What all scripts share: the time of the server, in microseconds and in milliseconds.
local time = redis.call('TIME')
local micros = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now = math.floor(micros / 1000)
-- An order stands in its hash as "version expires ended json"; here without the last.
local function read(order)
  local version, expires, ended = string.match(order, '^(%d+) (%d+) ([01]) ')
  return tonumber(version) or 0, tonumber(expires) or 0, ended
end
