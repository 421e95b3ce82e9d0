-- What is used and reserved of an allowance: a hash with a field for each process, which alone sets it. A field holds
-- what the process has reserved, then, by turns, the end of a slot and what it used in that; the oldest slot first. A
-- slot counts until the window's period after its end. A day or month is one slot that ends with it, and no period.

local MAX_AMOUNT = 4503599627370495
local HOUR_US = 3600000000
local DAY = 86400

-- The Unix second in which the current month ends. Years begin in March here, so that February is the last.
local function month_ends_at_s()
    local floor = math.floor
    local days = floor(now_s / DAY) + 719468
    local era = floor(days / 146097)
    local day_of_era = days - era * 146097
    local year = floor((day_of_era - floor(day_of_era / 1460) + floor(day_of_era / 36524)
        - floor(day_of_era / 146096)) / 365)
    local day_of_year = day_of_era - (365 * year + floor(year / 4) - floor(year / 100))
    local next_month = floor((5 * day_of_year + 2) / 153) + 1
    if next_month == 12 then
        next_month, year = 0, year + 1
        if year == 400 then
            year, era = 0, era + 1
        end
    end
    local next_day = 365 * year + floor(year / 4) - floor(year / 100) + floor((153 * next_month + 2) / 5)
    return (era * 146097 + next_day - 719468) * DAY
end

local function window_of(name, kind, period_us, slot_us)
    local ends_us
    if kind == 'month' then
        ends_us = month_ends_at_s() * 1000000
    elseif kind == 'day' then
        ends_us = (math.floor(now_s / DAY) + 1) * DAY * 1000000
    else
        ends_us = (math.floor(now_us / slot_us) + 1) * slot_us
    end
    return {key = request.prefix .. 'use:' .. name, period_us = period_us, ends_us = ends_us}
end

local function record(state, window, amount)
    if amount == 0 then
        return
    end
    local last = #state
    if last > 1 and state[last - 1] >= window.ends_us then
        state[last] = math.min(state[last] + amount, MAX_AMOUNT)
    else
        state[last + 1], state[last + 2] = window.ends_us, amount
    end
end

-- Without what has left the window. What a clock set it to that has been set back by more than an hour since, is of now.
local function pruned(state, window)
    local kept = {state[1]}
    for position = 2, #state, 2 do
        local ends_us = state[position]
        if ends_us > window.ends_us + HOUR_US then
            ends_us = window.ends_us
        end
        if ends_us + window.period_us > now_us then
            kept[#kept + 1] = ends_us
            kept[#kept + 1] = state[position + 1]
        end
    end
    return kept
end

local function used_of(state)
    local used = 0
    for position = 3, #state, 2 do
        used = used + state[position]
    end
    return used
end

-- Kept for an hour more than it counts; processes renew what they have reserved more often than that.
local function write(window, process, state)
    if state[1] == 0 and #state == 1 then
        redis.call('HDEL', window.key, process)
        return
    end
    redis.call('HSET', window.key, process, cmsgpack.pack(state))
    redis.call('PEXPIRE', window.key, math.ceil((window.ends_us + window.period_us - now_us + HOUR_US) / 1000))
end

-- By process. What one had reserved that is not there any more, is taken for used in full.
local function read(window)
    local states = {}
    local flat = redis.call('HGETALL', window.key)
    for position = 1, #flat, 2 do
        local process = flat[position]
        local before = cmsgpack.unpack(flat[position + 1])
        local state = pruned(before, window)
        if state[1] > 0 and process ~= request.process and redis.call('EXISTS', ALIVE .. process) == 0 then
            record(state, window, state[1])
            state[1] = 0
            write(window, process, state)
        elseif #state == 1 and state[1] == 0 then
            write(window, process, state)
        end
        states[process] = state
    end
    return states
end
