-- Stands before every other script here. Each is one request of one process, in MessagePack, and answers in it: "ok" and
-- the time first; or "stale", where this is not the Redis, or not the connection, that the process believes it to be; or
-- "recovering", where the processes still say what they had used. Numbers are whole and below 2^53, so they are exact.

local request = cmsgpack.unpack(ARGV[1])
local EPOCH = request.prefix .. 'epoch'
local ALIVE = request.prefix .. 'process:'
local MINE = ALIVE .. request.process
local time = redis.call('TIME')
local now_s = tonumber(time[1])
local now_us = now_s * 1000000 + tonumber(time[2])

local function recovers_for_us()
    local until_us = tonumber(redis.call('HGET', EPOCH, 'until_us')) or 0
    -- A clock that was set back does not make it longer.
    return math.min(math.max(until_us - now_us, 0), request.recovery_us)
end

-- Nobody is let through before all that this process has to say has come; but one that begins again and again does not
-- keep the others for ever.
local function wait_for_more()
    local before_us = recovers_for_us()
    if before_us > 0 then
        local began_us = tonumber(redis.call('HGET', EPOCH, 'began_us')) or now_us
        local until_us = math.max(now_us + before_us, now_us + request.more_us)
        redis.call('HSET', EPOCH, 'until_us', math.min(until_us, began_us + 10 * request.recovery_us))
    end
end

-- What keeps the script from going on, if anything does.
local function obstacle(during_recovery)
    if redis.call('HGET', EPOCH, 'run') ~= request.run
        or tonumber(redis.call('GET', MINE)) ~= request.generation then
        return cmsgpack.pack({'stale', now_us})
    end
    if not during_recovery and recovers_for_us() > 0 then
        return cmsgpack.pack({'recovering', now_us})
    end
end
