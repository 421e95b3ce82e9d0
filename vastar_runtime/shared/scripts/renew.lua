-- A process says that it is still there.

local stopped = obstacle(true)
if stopped then
    return stopped
end
redis.call('PEXPIRE', EPOCH, request.epoch_ms)
redis.call('PEXPIRE', MINE, request.lease_ms)
return cmsgpack.pack({'ok', now_us, recovers_for_us()})
