-- What buckets are set to from now on, and what they owe at least, as a process knows it since some time ago.

local stopped = obstacle(true)
if stopped then
    return stopped
end
wait_for_more()
for _, bucket in ipairs(request.buckets) do
    local name, count, period, burst, known_tokens, known_parts, known_at_us = unpack(bucket)
    local tokens, parts = owed(name, count, period, burst)
    known_tokens, known_parts = later(known_tokens, known_parts, math.max(now_us - known_at_us, 0), count, period)
    if known_tokens > tokens or (known_tokens == tokens and known_parts > parts) then
        tokens, parts = known_tokens, known_parts
    end
    if tokens >= burst then
        tokens, parts = burst, 0
    end
    keep(name, count, period, tokens, parts)
end
return cmsgpack.pack({'ok', now_us})
