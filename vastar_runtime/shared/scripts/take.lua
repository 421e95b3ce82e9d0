-- Take a token of every bucket, or of none: of each the tokens and parts that it owes then, and how long, in
-- milliseconds, until it has a token.

local stopped = obstacle(false)
if stopped then
    return stopped
end
local answer, found, is_refused = {}, {}, false
for position, bucket in ipairs(request.buckets) do
    local name, count, period, burst = unpack(bucket)
    local tokens, parts, is_there = owed(name, count, period, burst)
    local wait_ms = 0
    if tokens + 1 > burst or (tokens + 1 == burst and parts > 0) then
        wait_ms = math.ceil(((tokens + 1 - burst) * period + parts) / (count * 1000))
        is_refused = true
    end
    found[position] = {tokens, parts, is_there}
    answer[position] = {tokens, parts, wait_ms}
end
for position, bucket in ipairs(request.buckets) do
    local name, count, period = unpack(bucket)
    local tokens, parts, is_there = unpack(found[position])
    if not is_refused then
        tokens = tokens + 1
        answer[position][1] = tokens
    end
    -- Kept even if this request is refused, or an older setting's debt would be as far ahead the next time.
    if not is_refused or is_there then
        keep(name, count, period, tokens, parts)
    end
end
return cmsgpack.pack({'ok', now_us, is_refused and 0 or 1, answer})
