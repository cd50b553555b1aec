#!lua flags=allow-oom
-- Lets go of events and keys, so much in one step that nobody waits for long.
--
-- KEYS: events meta finished keys ages runs dropped holes
-- ARGV: epoch server events_max bytes_max appended_before now age_max runs_max,
--   how many offsets, offsets.., topic and offset of what is dropped..
-- Answers L: another life. Else: next, oldest, and 1 if there is more to do.
local call, format = redis.call, string.format
local events, meta, finished, keys = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local ages, runs, dropped, holes = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local EVENTS_STEP, GROUP_STEP, KEYS_STEP, BUCKET = 100000, 4096, 1000, 256
-- An append may be repeated for an hour, by clocks that differ.
local WRITERS_MAX, WRITER_MS = 100, 7200000

local known = call('HMGET', meta, 'epoch', 'server', 'next', 'oldest', 'bytes', 'holes')
if known[1] ~= ARGV[1] or known[2] ~= ARGV[2] then return 'L' end
local next, oldest, bytes = tonumber(known[3]), tonumber(known[4]), tonumber(known[5])
local gone = tonumber(known[6] or '0')
local events_max, bytes_max, before = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local now = tonumber(ARGV[6])
local more = 0

local function parsed(entry)
  if not entry then return nil end
  local found = { offset = tonumber(string.match(entry[1], '^(%d+)-0$')), t = '', d = '', m = '' }
  local fields = entry[2]
  for at = 1, #fields, 2 do found[fields[at]] = fields[at + 1] end
  local at, sum = string.match(found.a or '', '^(%d+) (%d+)$')
  if not found.offset or not at then
    error({ err = 'DAMAGED ' .. entry[1] .. ' is no event of a hub' })
  end
  found.at, found.sum = tonumber(at), tonumber(sum)
  found.size = 128 + #found.t + #found.d + #found.m
  for _ in string.gmatch(found.t, '[^\n]+') do found.size = found.size + 192 end
  return found
end

local function first(from)
  return parsed(call('XRANGE', events, format('%d-0', from), '+', 'COUNT', 1)[1])
end

-- What rules drop.
local offsets = tonumber(ARGV[9])
for place = 10, 9 + offsets do
  local id = ARGV[place] .. '-0'
  local event = parsed(call('XRANGE', events, id, id)[1])
  if event then
    call('XDEL', events, id)
    gone = gone + event.size
    call('HINCRBY', meta, 'holes', event.size)
    call('HINCRBY', holes, format('%d', math.floor(event.offset / BUCKET)), event.size)
    if string.find(event.m, '^%l*f') then
      for topic in string.gmatch(event.t, '[^\n]+') do
        if tonumber(call('ZSCORE', finished, topic) or -1) == event.offset then
          call('ZREM', finished, topic)
        end
      end
    end
  end
end
for place = 10 + offsets, #ARGV, 2 do
  if tonumber(ARGV[place + 1]) >= oldest then call('ZADD', dropped, 'GT', ARGV[place + 1], ARGV[place]) end
end

-- Up to where the oldest have to go.
local newest = parsed(call('XREVRANGE', events, '+', '-', 'COUNT', 1)[1])
local cut = oldest
if newest then
  local head = first(oldest)
  -- The lowest offset from which on events are young enough.
  if newest.at < before then
    cut = next
  elseif head.at < before then
    local old, young = head.offset, newest.offset
    while young - old > 1 do
      local middle = math.floor((old + young) / 2)
      local event = first(middle)
      if event.offset < young and event.at < before then old = event.offset else young = middle end
    end
    cut = young
  end
  -- The lowest offset from which on they are little enough. Sums stand at the beginnings of groups.
  if cut < next and bytes - head.sum - gone > bytes_max then
    local much, little, above = head.offset, next, 0
    while little - much > 1 do
      local middle = math.floor((much + little) / 2)
      local event = first(middle)
      if not event or event.offset >= little then
        little = middle
      elseif bytes - event.sum - gone > bytes_max then
        much = event.offset
      else
        little, above = middle, bytes - event.sum - gone
      end
    end
    -- Within the group that is too much.
    local from = little
    while above <= bytes_max and from > head.offset and little - from < GROUP_STEP do
      local some = call('XREVRANGE', events, format('%d-0', from - 1), format('%d-0', oldest), 'COUNT', 16)
      if #some == 0 then break end
      for _, entry in ipairs(some) do
        local event = parsed(entry)
        above = above + event.size
        if above > bytes_max then break end
        from = event.offset
      end
    end
    cut = math.max(cut, math.min(from, newest.offset))
  end
elseif oldest < next then
  cut = next
end
if cut - oldest > EVENTS_STEP then cut, more = oldest + EVENTS_STEP, 1 end
if cut > oldest then call('XTRIM', events, 'MINID', format('%d-0', cut)) end
local surplus = call('XLEN', events) - events_max
if surplus > 0 then
  if surplus > EVENTS_STEP then surplus, more = EVENTS_STEP, 1 end
  local left = call('XLEN', events) - surplus
  call('XTRIM', events, 'MAXLEN', format('%d', left))
  local head = left > 0 and first(oldest)
  cut = head and head.offset or next
end
if cut > oldest then
  for bucket = math.floor(oldest / BUCKET), math.floor(cut / BUCKET) - 1 do
    local field = format('%d', bucket)
    local hole = call('HGET', holes, field)
    if hole then
      gone = gone - tonumber(hole)
      call('HDEL', holes, field)
    end
  end
  -- Where nothing is left, there are no holes.
  if cut == next then
    call('DEL', holes)
    gone = 0
  end
  oldest = cut
  call('HSET', meta, 'oldest', format('%d', oldest), 'holes', format('%d', gone))
  local below = '(' .. format('%d', oldest)
  call('ZREMRANGEBYSCORE', finished, '-inf', below)
  call('ZREMRANGEBYSCORE', dropped, '-inf', below)
end

-- Keys.
local function forget(old)
  if #old == 0 then return end
  call('HDEL', keys, unpack(old))
  call('ZREM', runs, unpack(old))
  call('ZREM', ages, unpack(old))
  if #old == KEYS_STEP then more = 1 end
end
local young = '(' .. format('%d', math.max(0, now - tonumber(ARGV[7])))
forget(call('ZRANGEBYSCORE', ages, '-inf', young, 'LIMIT', 0, KEYS_STEP))
local many = call('ZCARD', ages) - tonumber(ARGV[8])
if many > 0 then forget(call('ZRANGE', ages, 0, math.min(many, KEYS_STEP) - 1)) end

-- Nodes that ended long ago.
if call('HLEN', meta) > WRITERS_MAX then
  local all = call('HGETALL', meta)
  for at = 1, #all, 2 do
    local last = string.find(all[at], '^w:') and string.match(all[at + 1], '^%d+ (%d+) ')
    if last and tonumber(last) + WRITER_MS < now then call('HDEL', meta, all[at]) end
  end
end
return { format('%d', next), format('%d', oldest), more }
