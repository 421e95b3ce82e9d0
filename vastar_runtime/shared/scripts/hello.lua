-- A process says that it is there, on a connection later than all that it had before; and how long Redis recovers.
-- A run of Redis that nobody has seen yet, or one that has lost the word of it, knows too little: it recovers.

local known = tonumber(redis.call('GET', MINE))
if known and known > request.generation then
    return cmsgpack.pack({'stale', now_us})
end
if redis.call('HGET', EPOCH, 'run') ~= request.run then
    redis.call('HSET', EPOCH, 'run', request.run, 'began_us', now_us, 'until_us', now_us + request.recovery_us)
end
redis.call('PEXPIRE', EPOCH, request.epoch_ms)
redis.call('SET', MINE, request.generation, 'PX', request.lease_ms)
return cmsgpack.pack({'ok', now_us, recovers_for_us()})
