-- Token buckets. A bucket owes whole tokens and parts of one, of which there are as many as its period has
-- microseconds: its rate pays "count" parts each microsecond.

-- parts / period, for parts = us * count: quotient and remainder. The product may be too large for a double, so count
-- goes in 15 bits at a time; periods are below 2^37 microseconds.
local function paid(us, count, period)
    local digits = {}
    repeat
        digits[#digits + 1] = count % 32768
        count = math.floor(count / 32768)
    until count == 0
    local whole, rest = 0, 0
    for position = #digits, 1, -1 do
        local parts = rest * 32768 + us * digits[position]
        local quotient = math.floor(parts / period)
        rest = parts - quotient * period
        if rest < 0 then
            quotient, rest = quotient - 1, rest + period
        end
        whole = whole * 32768 + quotient
    end
    return whole, rest
end

-- What a bucket owes so long after it owed this.
local function later(tokens, parts, elapsed_us, count, period)
    local periods = math.floor(elapsed_us / period)
    if periods >= (tokens + 1) / count then
        return 0, 0
    end
    local whole, rest = paid(elapsed_us - periods * period, count, period)
    tokens, parts = tokens - periods * count - whole, parts - rest
    if parts < 0 then
        tokens, parts = tokens - 1, parts + period
    end
    if tokens < 0 then
        return 0, 0
    end
    return tokens, parts
end

-- The same in parts of another period, rounded up.
local function in_parts_of(tokens, parts, before, period)
    if before == period or parts == 0 then
        return tokens, parts
    elseif period % before == 0 then
        return tokens, parts * (period / before)
    elseif before % period == 0 then
        parts = math.ceil(parts / (before / period))
        if parts < period then
            return tokens, parts
        end
    end
    return tokens + 1, 0
end

local function bucket_key(name)
    return request.prefix .. 'rate:' .. name
end

-- What it owes by now, by what it was set to, in terms of what it is set to; at most what an empty one does. And
-- whether it was there.
local function owed(name, count, period, burst)
    local found = redis.call('GET', bucket_key(name))
    if not found then
        return 0, 0, false
    end
    local before_count, before_period, tokens, parts, at_us = unpack(cmsgpack.unpack(found))
    tokens, parts = later(tokens, parts, math.max(now_us - at_us, 0), before_count, before_period)
    tokens, parts = in_parts_of(tokens, parts, before_period, period)
    if tokens >= burst then
        tokens, parts = burst, 0
    end
    return tokens, parts, true
end

-- Kept until it owes nothing, but for ten years at most.
local function keep(name, count, period, tokens, parts)
    if tokens == 0 and parts == 0 then
        redis.call('DEL', bucket_key(name))
        return
    end
    local ms = math.min(math.ceil((tokens + 1) / count * (period / 1000)) + 1000, 315360000000)
    redis.call('SET', bucket_key(name), cmsgpack.pack({count, period, tokens, parts, now_us}), 'PX', ms)
end
