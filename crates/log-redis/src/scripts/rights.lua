#!lua flags=no-writes
-- What the user may not do of all that the scripts do: a script that is stopped half-way leaves half.
--
-- KEYS: any of the log's
-- Answers the names of commands.
local key, missing = KEYS[1], {}
for _, command in ipairs({
  { 'DEL', key }, { 'EXISTS', key }, { 'HDEL', key, 'a' }, { 'HGET', key, 'a' }, { 'HGETALL', key },
  { 'HINCRBY', key, 'a', '1' }, { 'HLEN', key }, { 'HMGET', key, 'a' }, { 'HSET', key, 'a', 'b' },
  { 'HSETNX', key, 'a', 'b' }, { 'PEXPIREAT', key, '1' }, { 'TIME' }, { 'XADD', key, '1-0', 'a', 'b' },
  { 'XDEL', key, '1-0' }, { 'XLEN', key }, { 'XRANGE', key, '-', '+' }, { 'XREVRANGE', key, '+', '-' },
  { 'XTRIM', key, 'MAXLEN', '1' }, { 'ZADD', key, '1', 'a' }, { 'ZCARD', key }, { 'ZPOPMIN', key },
  { 'ZRANGE', key, '0', '1' }, { 'ZRANGEBYLEX', key, '-', '+' }, { 'ZRANGEBYSCORE', key, '0', '1' },
  { 'ZREM', key, 'a' }, { 'ZREMRANGEBYSCORE', key, '0', '1' }, { 'ZREVRANGEBYLEX', key, '+', '-' },
  { 'ZSCORE', key, 'a' }, { 'XREAD', 'STREAMS', key, '0' }, { 'XINFO', 'STREAM', key },
}) do
  if not redis.acl_check_cmd(unpack(command)) then missing[#missing + 1] = command[1] end
end
return table.concat(missing, ' ')
