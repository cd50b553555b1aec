#!lua
-- Appends a group of publishes in one step. It fails as a whole before it has written anything.
--
-- KEYS: events meta finished keys ages runs
-- ARGV: epoch server writer sequence now replicated kind, then for
--   kind p (no key, nothing final): what the records count as, whether there is m, and t d [m] for each;
--   kind c: age_max runs_max, and for each publish the number of its records, and t d m k for each.
-- Answers L: another life. F: the stream holds what no hub wrote. C: to be sent again as kind c.
--   S: it comes late. A<first>: all was appended.
--   O: a line for each publish; - and what refuses it, or its offsets, = where repeated.
local call, format, gmatch, match = redis.call, string.format, string.gmatch, string.match
local events, meta, finished = KEYS[1], KEYS[2], KEYS[3]
local writer, now = 'w:' .. ARGV[3], ARGV[5]

local known = call('HMGET', meta, 'epoch', 'server', 'next', 'bytes', writer)
if known[1] ~= ARGV[1] or known[2] ~= ARGV[2] then return 'L' end
if known[5] then
  local sequence, _, reply = match(known[5], '^(%d+) (%d+) (.*)$')
  if sequence == ARGV[4] then
    -- A write of this connection, for WAIT to wait for.
    if ARGV[6] == '1' then call('HSET', meta, writer, known[5]) end
    return reply
  end
  if tonumber(sequence) > tonumber(ARGV[4]) then return 'S' end
end
local next, bytes = tonumber(known[3]), tonumber(known[4])
local at = now .. ' ' .. format('%d', bytes)

-- Adds the first record. It shows whether the stream can be written; nothing else has been by then.
local function begin(t, d, m)
  local added
  if m == '' then
    added = redis.pcall('XADD', events, format('%d-0', next), 't', t, 'd', d, 'a', at)
  else
    added = redis.pcall('XADD', events, format('%d-0', next), 't', t, 'd', d, 'a', at, 'm', m)
  end
  if type(added) ~= 'table' or not added.err then return nil end
  if string.find(added.err, 'equal or smaller', 1, true) then return 'F' end
  return added
end

local function settle(count, size, reply)
  call('HSET', meta, 'next', format('%d', next + count), 'bytes', format('%d', bytes + size),
    writer, ARGV[4] .. ' ' .. now .. ' ' .. reply)
  return reply
end

local is_any_finished = call('EXISTS', finished) == 1

if ARGV[7] == 'p' then
  local stride = ARGV[9] == '1' and 3 or 2
  local last = #ARGV - stride + 1
  local reply = 'A' .. format('%d', next)
  if last < 10 then return settle(0, 0, reply) end
  if is_any_finished then
    local asked = {}
    for place = 10, last, stride do
      for topic in gmatch(ARGV[place], '[^\n]+') do
        if not asked[topic] then
          asked[topic] = true
          if call('ZSCORE', finished, topic) then return 'C' end
        end
      end
    end
  end
  local failed = begin(ARGV[10], ARGV[11], stride == 3 and ARGV[12] or '')
  if failed then return failed end
  local offset = next + 1
  for place = 10 + stride, last, stride do
    local m = stride == 3 and ARGV[place + 2] or ''
    if m == '' then
      call('XADD', events, format('%d-0', offset), 't', ARGV[place], 'd', ARGV[place + 1], 'a', at)
    else
      call('XADD', events, format('%d-0', offset), 't', ARGV[place], 'd', ARGV[place + 1], 'a', at, 'm', m)
    end
    offset = offset + 1
  end
  return settle(offset - next, tonumber(ARGV[8]), reply)
end

local keys, ages, runs = KEYS[4], KEYS[5], KEYS[6]
local oldest_at, runs_max = tonumber(now) - tonumber(ARGV[8]), tonumber(ARGV[9])
local STEP = 1000

-- Where the records are, and what stands for their keys: with a number, those are held as runs.
local publishes, whole = {}, {}
do
  local place = 10
  while place <= #ARGV do
    local count = tonumber(ARGV[place])
    publishes[#publishes + 1] = { place + 1, place + 4 * count }
    for record = place + 1, place + 4 * count, 4 do
      local key = ARGV[record + 3]
      if key ~= '' and not string.find(key, '\t', 1, true) then whole[#whole + 1] = key end
    end
    place = place + 1 + 4 * count
  end
end

local function parsed(held)
  if not held then return nil end
  local offset, at, count = match(held, '^(%d+) (%d+) ?(%d*)$')
  if not offset then return nil end
  return { offset = tonumber(offset), at = tonumber(at), count = tonumber(count) or 1 }
end

local planned = {}
local held = {}
for first = 1, #whole, STEP do
  local last = math.min(first + STEP - 1, #whole)
  for place, value in ipairs(call('HMGET', keys, unpack(whole, first, last))) do
    local own = parsed(value)
    if own and own.at >= oldest_at then held[whole[first + place - 1]] = own.offset end
  end
end

-- The run that begins at a number or before it, and the number at which the next one begins.
local around = {}
local function run_before(prefix, key, number)
  local known = around[prefix]
  if known and known.from <= number and number < known.to then return known.run end
  local first = call('ZREVRANGEBYLEX', runs, '[' .. key, '[' .. prefix, 'LIMIT', 0, 1)[1]
  local after = call('ZRANGEBYLEX', runs, '(' .. key, '(' .. prefix .. ':', 'LIMIT', 0, 1)[1]
  local run = first and parsed(call('HGET', keys, first))
  if run then
    run.field = first
    run.number = tonumber(string.sub(first, #prefix + 1))
  end
  local to = after and tonumber(string.sub(after, #prefix + 1)) or math.huge
  around[prefix] = { from = first and run and run.number or number, to = to, run = run }
  return run
end

local function split(key)
  local prefix, number = match(key, '^(.*\t)(%d+)$')
  return prefix, tonumber(number)
end

local function repeated(key)
  if planned[key] then return planned[key] end
  local prefix, number = split(key)
  if not prefix then return held[key] end
  local run = run_before(prefix, key, number)
  if run and number - run.number < run.count and run.at >= oldest_at then
    return run.offset + (number - run.number)
  end
  return nil
end

local changed, order, open_runs = {}, {}, {}
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
    run = run_before(prefix, key, number)
    if run and (run.number + run.count ~= number or run.offset + run.count ~= offset) then run = nil end
  end
  if run then
    run = { field = run.field, number = run.number, offset = run.offset, count = run.count + 1 }
  else
    run = { field = key, number = number, offset = offset, count = 1 }
  end
  change(run)
  open_runs[prefix] = run
end

local finals, final_order, looked_up = {}, {}, {}
local function finished_at(topic)
  if finals[topic] then return finals[topic] end
  if not is_any_finished then return nil end
  if looked_up[topic] == nil then looked_up[topic] = call('ZSCORE', finished, topic) end
  return looked_up[topic]
end

local function is_final(m)
  return m ~= '' and string.find(m, '^%l*f')
end

-- What refuses a publish: a topic of a record that is not repeated is finished, or by an earlier record of it.
local function refusal(first, last)
  local own = {}
  for record = first, last, 4 do
    local t, m, key = ARGV[record], ARGV[record + 2], ARGV[record + 3]
    if key == '' or not repeated(key) then
      for topic in gmatch(t, '[^\n]+') do
        local offset = finished_at(topic) or own[topic]
        if offset then return '-' .. format('%d', tonumber(offset)) .. ' ' .. topic end
      end
      if is_final(m) then
        for topic in gmatch(t, '[^\n]+') do own[topic] = 0 end
      end
    end
  end
  return nil
end

local records, lines, size = {}, {}, 0
local function take(first, last)
  local line = {}
  for record = first, last, 4 do
    local t, d, m, key = ARGV[record], ARGV[record + 1], ARGV[record + 2], ARGV[record + 3]
    local offset = key ~= '' and repeated(key)
    if offset then
      line[#line + 1] = '=' .. format('%d', offset)
    else
      offset = next + #records
      if key ~= '' then remember(key, offset) end
      if is_final(m) then
        for topic in gmatch(t, '[^\n]+') do
          finals[topic] = offset
          final_order[#final_order + 1] = topic
        end
      end
      records[#records + 1] = record
      size = size + 320 + #t + #d + #m
      for _ in gmatch(t, '\n') do size = size + 192 end
      line[#line + 1] = format('%d', offset)
    end
  end
  return table.concat(line, ',')
end

for number, publish in ipairs(publishes) do
  lines[number] = refusal(publish[1], publish[2]) or take(publish[1], publish[2])
end
local reply = 'O' .. table.concat(lines, '\n')
if #records == 0 then return reply end

-- All is decided: from here on it is written.
local failed = begin(ARGV[records[1]], ARGV[records[1] + 1], ARGV[records[1] + 2])
if failed then return failed end
for number = 2, #records do
  local record = records[number]
  local id, m = format('%d-0', next + number - 1), ARGV[record + 2]
  if m == '' then
    call('XADD', events, id, 't', ARGV[record], 'd', ARGV[record + 1], 'a', at)
  else
    call('XADD', events, id, 't', ARGV[record], 'd', ARGV[record + 1], 'a', at, 'm', m)
  end
end
for _, topic in ipairs(final_order) do
  call('ZADD', finished, format('%d', finals[topic]), topic)
end
for first = 1, #order, STEP do
  local sets, scores, begins = {}, {}, {}
  for place = first, math.min(first + STEP - 1, #order) do
    local field = order[place]
    local run = changed[field]
    local value = format('%d', run.offset) .. ' ' .. now
    if run.count then
      value = value .. ' ' .. format('%d', run.count)
      begins[#begins + 1] = 0
      begins[#begins + 1] = field
    end
    sets[#sets + 1] = field
    sets[#sets + 1] = value
    scores[#scores + 1] = now
    scores[#scores + 1] = field
  end
  call('HSET', keys, unpack(sets))
  call('ZADD', ages, unpack(scores))
  if #begins > 0 then call('ZADD', runs, unpack(begins)) end
end
if #order > 0 then
  local surplus = call('ZCARD', ages) - runs_max
  while surplus > 0 do
    local old = call('ZPOPMIN', ages, math.min(surplus, STEP))
    local fields = {}
    for place = 1, #old, 2 do fields[#fields + 1] = old[place] end
    if #fields == 0 then break end
    call('HDEL', keys, unpack(fields))
    call('ZREM', runs, unpack(fields))
    -- The rest is for the next time.
    surplus = math.min(surplus, #order) - #fields
  end
end
return settle(#records, size, reply)
