-- A token was not used after all: every bucket has it again. Of each the tokens and parts that it owes then.

local stopped = obstacle(false)
if stopped then
    return stopped
end
local answer = {}
for position, bucket in ipairs(request.buckets) do
    local name, count, period, burst = unpack(bucket)
    local tokens, parts, is_there = owed(name, count, period, burst)
    if is_there then
        if tokens == 0 then
            parts = 0
        end
        tokens = math.max(tokens - 1, 0)
        keep(name, count, period, tokens, parts)
    end
    answer[position] = {tokens, parts}
end
return cmsgpack.pack({'ok', now_us, answer})
