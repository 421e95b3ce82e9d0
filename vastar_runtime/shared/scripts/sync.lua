-- What a process has reserved in all of each allowance, and what it used since it said so last; "replaces": its slots in
-- all, whatever stands there. "before" is what its daemon has used since the day or month began, as its own file has it:
-- it takes the place of what earlier processes of the daemon have left here. Answers the position of each such item, and
-- what counts as used by the process then.

local stopped = obstacle(true)
if stopped then
    return stopped
end
wait_for_more()

local function is_earlier_of_daemon(process)
    return process ~= request.process and string.sub(process, 1, #request.daemon) == request.daemon
end

local begun = {}
for position, item in ipairs(request.items) do
    local name, kind, period_us, slot_us, reserved, use, replaces, slots, before = unpack(item)
    local window = window_of(name, kind, period_us, slot_us)
    local found = redis.call('HGET', window.key, request.process)
    local state = pruned(found and cmsgpack.unpack(found) or {0}, window)
    local was_used = used_of(state)
    if replaces == 1 then
        local all = {0}
        for index, value in ipairs(slots) do
            all[index + 1] = value
        end
        state = pruned(all, window)
    end
    record(state, window, use)
    if before >= 0 then
        local used = math.max(used_of(state), was_used)
        for process, other in pairs(read(window)) do
            if is_earlier_of_daemon(process) then
                used = used + used_of(other) + other[1]
                redis.call('HDEL', window.key, process)
            end
        end
        used = math.min(math.max(used, before), MAX_AMOUNT)
        state = {0}
        record(state, window, used)
        begun[#begun + 1] = {position - 1, used}
    end
    state[1] = reserved
    write(window, request.process, state)
end
return cmsgpack.pack({'ok', now_us, begun})
