-- Reserve of every allowance, or of none: what is used and reserved of each; or of those without room their position,
-- what is used and reserved, and in how long enough use leaves: first for the request alone, then beside what is
-- reserved; 0: none has to, -1: all that is used would not be enough.

local stopped = obstacle(false)
if stopped then
    return stopped
end

local function leaves_in_us(states, window, amount)
    if amount <= 0 then
        return 0
    end
    local slots = {}
    for _, state in pairs(states) do
        for position = 2, #state, 2 do
            slots[#slots + 1] = {state[position], state[position + 1]}
        end
    end
    table.sort(slots, function(one, other) return one[1] < other[1] end)
    for _, slot in ipairs(slots) do
        amount = amount - slot[2]
        if amount <= 0 then
            return slot[1] + window.period_us - now_us
        end
    end
    return -1
end

local standings, refused, admitted = {}, {}, {}
for position, item in ipairs(request.items) do
    local name, kind, period_us, slot_us, limit, asked = unpack(item)
    local window = window_of(name, kind, period_us, slot_us)
    local states = read(window)
    local used, reserved = 0, 0
    for _, state in pairs(states) do
        used, reserved = used + used_of(state), reserved + state[1]
    end
    used, reserved = math.min(used, MAX_AMOUNT), math.min(reserved, MAX_AMOUNT)
    if used + reserved + asked > limit then
        refused[#refused + 1] = {
            position - 1, used, reserved,
            leaves_in_us(states, window, used + asked - limit),
            leaves_in_us(states, window, used + reserved + asked - limit),
        }
    end
    local mine = states[request.process] or {0}
    mine[1] = mine[1] + asked
    admitted[position] = {window, mine}
    standings[position] = {used, reserved + asked}
end
if #refused > 0 then
    return cmsgpack.pack({'ok', now_us, 0, refused})
end
for _, item in ipairs(admitted) do
    write(item[1], request.process, item[2])
end
return cmsgpack.pack({'ok', now_us, 1, standings})
