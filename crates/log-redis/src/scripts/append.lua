#!lua
-- Appends a group of publishes in one step. It fails as a whole before it has written anything.
--
-- KEYS: events meta writers finished keys ages runs
-- ARGV: epoch server writer sequence now replicated kind, then for
--   kind p (no key, nothing final): what the records count as, whether there is m, and t d [m] for each;
--   kind c: age_max runs_max, and for each publish the number of its records, and t d m k for each.
-- Answers L: another life. F: the stream holds what no hub wrote. C: to be sent again as kind c.
--   S: it comes late. A<first>: all was appended. O: a line for each publish; - and what refuses it, or its offsets, = where repeated.
local call, format = redis.call, string.format
local events, meta, writers, finished = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = ARGV[5]

local known = call('HMGET', meta, 'epoch', 'server', 'next', 'bytes')
if known[1] ~= ARGV[1] or known[2] ~= ARGV[2] then return 'L' end
local done = call('HGET', writers, ARGV[3])
if done then
  local sequence, _, reply = string.match(done, '^(%d+) (%d+) (.*)$')
  if sequence == ARGV[4] then
    -- A write of this connection, for WAIT to wait for.
    if ARGV[6] == '1' then call('HSET', writers, ARGV[3], done) end
    return reply
  end
  if tonumber(sequence) > tonumber(ARGV[4]) then return 'S' end
end
local next, bytes = tonumber(known[3]), tonumber(known[4])
local at = now .. ' ' .. format('%d', bytes)

-- The first one shows whether the stream can be written; nothing else has been by then.
local is_begun = false
local function add(offset, t, d, m)
  local id = format('%d-0', offset)
  local run = is_begun and call or redis.pcall
  local added
  if m == '' then
    added = run('XADD', events, id, 't', t, 'd', d, 'a', at)
  else
    added = run('XADD', events, id, 't', t, 'd', d, 'a', at, 'm', m)
  end
  is_begun = true
  return added
end

local function settle(count, size, reply)
  call('HSET', meta, 'next', format('%d', next + count), 'bytes', format('%d', bytes + size))
  call('HSET', writers, ARGV[3], ARGV[4] .. ' ' .. now .. ' ' .. reply)
  return reply
end

local function refused(added)
  if string.find(added.err, 'equal or smaller', 1, true) then return 'F' end
  return added
end

if ARGV[7] == 'p' then
  local stride = ARGV[9] == '1' and 3 or 2
  local last = #ARGV - stride + 1
  if call('EXISTS', finished) == 1 then
    local asked = {}
    for at = 10, last, stride do
      for topic in string.gmatch(ARGV[at], '[^\n]+') do asked[topic] = true end
    end
    for topic in pairs(asked) do
      if call('ZSCORE', finished, topic) then return 'C' end
    end
  end
  local offset = next
  for place = 10, last, stride do
    local added = add(offset, ARGV[place], ARGV[place + 1], stride == 3 and ARGV[place + 2] or '')
    if type(added) == 'table' and added.err then return refused(added) end
    offset = offset + 1
  end
  return settle(offset - next, tonumber(ARGV[8]), 'A' .. format('%d', next))
end

local keys, ages, runs = KEYS[5], KEYS[6], KEYS[7]
local oldest_at, runs_max = tonumber(now) - tonumber(ARGV[8]), tonumber(ARGV[9])

-- What stands for a key: a number as text for a key of its own, a run of them for those with a number.
local function remembered(field)
  local held = call('HGET', keys, field)
  if not held then return nil end
  local offset, at, count = string.match(held, '^(%d+) (%d+) ?(%d*)$')
  if not offset then return nil end
  return { field = field, offset = tonumber(offset), at = tonumber(at), count = tonumber(count) or 1 }
end

-- The run of keys that begins at a key or before it.
local function run_before(prefix, field)
  local first = call('ZREVRANGEBYLEX', runs, '[' .. field, '[' .. prefix, 'LIMIT', 0, 1)[1]
  local run = first and remembered(first)
  if run then run.number = tonumber(string.sub(first, #prefix + 1)) end
  return run
end

local planned, changed, order, open_runs = {}, {}, {}, {}

local function split(key)
  local prefix, number = string.match(key, '^(.*\t)(%d+)$')
  return prefix, tonumber(number)
end

local function repeated(key)
  if planned[key] then return planned[key] end
  local prefix, number = split(key)
  if not prefix then
    local own = remembered(key)
    return own and own.at >= oldest_at and own.offset or nil
  end
  local run = run_before(prefix, key)
  if run and number - run.number < run.count and run.at >= oldest_at then
    return run.offset + (number - run.number)
  end
  return nil
end

local function change(run)
  if not changed[run.field] then order[#order + 1] = run.field end
  changed[run.field] = run
end

local function remember(key, offset)
  planned[key] = offset
  local prefix, number = split(key)
  if not prefix then
    change({ field = key, offset = offset })
    return
  end
  local run = open_runs[prefix]
  if not run or run.number + run.count ~= number or run.offset + run.count ~= offset then
    run = run_before(prefix, key)
  end
  if run and run.number + run.count == number and run.offset + run.count == offset then
    run.count = run.count + 1
  else
    run = { field = key, number = number, offset = offset, count = 1 }
  end
  change(run)
  open_runs[prefix] = run
end

-- The plan.
local records, finals, final_order, lines = {}, {}, {}, {}
local size, place = 0, 10
while place <= #ARGV do
  local count = tonumber(ARGV[place])
  local own, refusal = {}, nil
  local first = place + 1
  place = first + 4 * count
  for record = first, place - 1, 4 do
    local t, m, key = ARGV[record], ARGV[record + 2], ARGV[record + 3]
    if key == '' or not repeated(key) then
      for topic in string.gmatch(t, '[^\n]+') do
        local offset = finals[topic] or call('ZSCORE', finished, topic) or own[topic]
        if offset then
          refusal = '-' .. format('%d', tonumber(offset)) .. ' ' .. topic
          break
        end
      end
      if refusal then break end
      if string.find(m, '^%l*f') then
        for topic in string.gmatch(t, '[^\n]+') do own[topic] = 0 end
      end
    end
  end
  local line = {}
  if not refusal then
    for record = first, place - 1, 4 do
      local t, d, m, key = ARGV[record], ARGV[record + 1], ARGV[record + 2], ARGV[record + 3]
      local offset = key ~= '' and repeated(key)
      if offset then
        line[#line + 1] = '=' .. format('%d', offset)
      else
        offset = next + #records
        if key ~= '' then remember(key, offset) end
        if string.find(m, '^%l*f') then
          for topic in string.gmatch(t, '[^\n]+') do
            finals[topic] = offset
            final_order[#final_order + 1] = topic
          end
        end
        records[#records + 1] = record
        size = size + 128 + #t + #d + #m
        for _ in string.gmatch(t, '[^\n]+') do size = size + 192 end
        line[#line + 1] = format('%d', offset)
      end
    end
  end
  lines[#lines + 1] = refusal or table.concat(line, ',')
end
local reply = 'O' .. table.concat(lines, '\n')
if #records == 0 then return reply end

-- What it comes to.
for number, record in ipairs(records) do
  local added = add(next + number - 1, ARGV[record], ARGV[record + 1], ARGV[record + 2])
  if type(added) == 'table' and added.err then return refused(added) end
end
for _, topic in ipairs(final_order) do
  call('ZADD', finished, format('%d', finals[topic]), topic)
end
for _, field in ipairs(order) do
  local run = changed[field]
  local held = format('%d', run.offset) .. ' ' .. now
  if run.count then
    held = held .. ' ' .. format('%d', run.count)
    call('ZADD', runs, 0, field)
  end
  call('HSET', keys, field, held)
  call('ZADD', ages, now, field)
end
if #order > 0 then
  local surplus = call('ZCARD', ages) - runs_max
  if surplus > 0 then
    local old = call('ZPOPMIN', ages, math.min(surplus, #order + 100))
    for at = 1, #old, 2 do
      call('HDEL', keys, old[at])
      call('ZREM', runs, old[at])
    end
  end
end
return settle(#records, size, reply)
