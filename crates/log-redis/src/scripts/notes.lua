#!lua flags=no-writes
-- The notes that are up whose names begin with something: name, note, ..
--
-- KEYS: notes until
-- ARGV: prefix
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local up = {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. string.format('%d', now), '+inf')) do
  if string.sub(name, 1, #ARGV[1]) == ARGV[1] then
    local note = redis.call('HGET', KEYS[1], name)
    if note then
      up[#up + 1] = name
      up[#up + 1] = note
    end
  end
end
return up
