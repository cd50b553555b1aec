#!lua
-- Writes down which life the log has, if that is still what somebody has looked at.
--
-- KEYS: meta finished dropped holes
-- ARGV: the life as it was found (empty if there was none), as it is to be, epoch server next oldest,
--   and what was next as it was found (empty if nothing was).
-- Answers 1, or 0: look again.
local was = redis.call('HGET', KEYS[1], 'life') or ''
local next = redis.call('HGET', KEYS[1], 'next') or ''
if was ~= ARGV[1] or next ~= ARGV[7] then return 0 end
redis.call('HSET', KEYS[1], 'v', '1', 'life', ARGV[2], 'epoch', ARGV[3], 'server', ARGV[4],
  'next', ARGV[5], 'oldest', ARGV[6])
redis.call('HSETNX', KEYS[1], 'bytes', '0')
-- What only events that are gone have left.
local below = '(' .. ARGV[6]
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', below)
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', below)
if ARGV[5] == ARGV[6] then
  redis.call('DEL', KEYS[4])
  redis.call('HDEL', KEYS[1], 'holes')
end
return 1
