-- Sends the plan the harness wrote (BENCH_PLAN, a Lua table) and counts every answer that is not
-- exactly what the plan expects. Ids are never used twice, so that one session can carry many
-- calls at once. Prints one line of JSON when wrk is done.

local plan = dofile(os.getenv("BENCH_PLAN"))
local threads = {}

bad, first_bad = 0, ""
local next_id, turn = plan.first_id, 0
local sessions = #plan.prefixes
local format = string.format

function setup(thread)
  table.insert(threads, thread)
end

function request()
  turn = turn % sessions + 1
  next_id = next_id + 1
  return plan.prefixes[turn] .. format("%d", next_id) .. plan.suffix
end

local before, after = plan.answer_before, plan.answer_after
local size = #before + 10 + #after

local function is_right(status, body)
  return status == 200 and #body == size
    and body:sub(1, #before) == before
    and body:sub(-#after) == after
end

if plan.look == "all" then
  function response(status, headers, body)
    if not is_right(status, body) then
      bad = bad + 1
      if bad == 1 then first_bad = format("status %d: %s", status, body:sub(1, 200)) end
    end
  end
end

local function quoted(text)
  return '"' .. text:gsub('[%c"\\]', function(c) return format("\\u%04x", c:byte()) end) .. '"'
end

function done(summary, latency, requests)
  local wrong, sample = 0, ""
  for _, thread in ipairs(threads) do
    wrong = wrong + thread:get("bad")
    if sample == "" then sample = thread:get("first_bad") end
  end
  local e = summary.errors
  io.write("\nBENCH {", format(
    '"requests":%d,"duration_us":%d,"bytes":%d,"p50_us":%d,"p99_us":%d,"max_us":%d,"wrong":%d,' ..
    '"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,"sample":%s}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50),
    latency:percentile(99), latency.max, wrong, e.connect, e.read, e.write, e.status, e.timeout,
    quoted(sample)))
end
