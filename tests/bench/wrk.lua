-- wrk's script: sends the requests of a file in turn; counts the responses that are not as expected.
local requests, carried, tag, unique, placeholder, expected = {}, {}, "", "", "", ""
local sent, has_unique, has_carried = 0, false, false
ok, bad, first_bad = 0, 0, ""
local threads = {}

function setup(thread) table.insert(threads, thread) end

-- Replaces a text, not a pattern, once.
local function replace(text, what, by)
  local first, last = text:find(what, 1, true)
  return text:sub(1, first - 1) .. by .. text:sub(last + 1)
end

function init(args)
  for text in io.open(args[1], "rb"):read("*a"):gmatch("([^%z]+)%z") do table.insert(requests, text) end
  for line in io.lines(args[2]) do table.insert(carried, line) end
  tag, unique, placeholder, expected = args[3], args[4], args[5], args[6]
  has_unique = requests[1]:find(unique, 1, true) ~= nil
  has_carried = requests[1]:find(placeholder, 1, true) ~= nil
end

function request()
  sent = sent + 1
  local text = requests[sent % #requests + 1]
  if has_unique then text = replace(text, unique, string.format("%s%07d", tag, sent)) end
  if has_carried then text = replace(text, placeholder, table.remove(carried, 1) or "none-left") end
  return text
end

function response(status, _, body)
  if status >= 200 and status < 300 and body:find(expected, 1, true) then
    ok = ok + 1
    if has_carried then table.insert(carried, body:match('"refreshToken":"([^"]+)"')) end
  else
    bad = bad + 1
    if first_bad == "" then first_bad = status .. " " .. body:sub(1, 200) end
  end
end

function done(summary, latency)
  local oks, bads, first = 0, 0, ""
  for _, thread in ipairs(threads) do
    oks, bads = oks + thread:get("ok"), bads + thread:get("bad")
    if first == "" then first = thread:get("first_bad") end
  end
  local errors = summary.errors
  io.write(string.format(
    '\nLOAD {"ok":%d,"bad":%d,"first_bad":"%s","lost":%d,"us":%d,"p50":%d,"p95":%d,"p99":%d}\n',
    oks, bads, (first:gsub('["\\%c]', "'")), errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration, latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
