#!lua
-- Puts a note up, and takes down those whose time is over.
--
-- KEYS: notes until
-- ARGV: name note ttl-ms
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local over = call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%d', now), 'LIMIT', 0, 1000)
if #over > 0 then
  call('HDEL', KEYS[1], unpack(over))
  call('ZREM', KEYS[2], unpack(over))
end
call('HSET', KEYS[1], ARGV[1], ARGV[2])
call('ZADD', KEYS[2], string.format('%d', now + tonumber(ARGV[3])), ARGV[1])
local last = call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')
call('PEXPIREAT', KEYS[1], string.format('%d', tonumber(last[2]) + 1000))
call('PEXPIREAT', KEYS[2], string.format('%d', tonumber(last[2]) + 1000))
return 1
