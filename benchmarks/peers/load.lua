-- Sends the requests of a file as they stand there, in random order, and prints what came of it as JSON.
-- Arguments: the file, whose requests are separated by a zero byte; a number to draw from, and to count from.

local requests = {}
local placeholder = string.rep("#", 16)
local counted = false
local number = 0

function init(arguments)
   local file = assert(io.open(arguments[1], "rb"))
   for text in file:read("*a"):gmatch("[^%z]+") do
      requests[#requests + 1] = text
   end
   file:close()
   counted = requests[1]:find(placeholder, 1, true) ~= nil
   number = tonumber(arguments[2])
   math.randomseed(number)
end

function request()
   local text = requests[math.random(#requests)]
   if not counted then
      return text
   end
   number = number + 1
   return (text:gsub(placeholder, string.format("%016.0f", number), 1))
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "microseconds": %d, "bytes": %d, "refused": %d, "broken": %d, "p50": %.1f, "p99": %.1f}\n',
      summary.requests, summary.duration, summary.bytes, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout,
      latency:percentile(50), latency:percentile(99)))
end
