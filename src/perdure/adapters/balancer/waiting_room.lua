-- The waiting room: requests for a service with no server up wait here, inside HAProxy, until there is one.
--
-- Every backend has this as its backup server, so HAProxy sends a request here only when no replica can take it. The
-- frontend `wait-NAME` runs one of these actions, and then sends the request to the same backend again. However many
-- wait, the state of a backend is read once per tick: the first of a tick reads it, the others use what it found.

local TICK_MS = 20
local ROUNDS_MAX = 8
local HEADER = "perdure-waited"

local clock = core.now
local rooms = {}

local function now_ms()
    local now = clock()
    return now.sec * 1000 + math.floor(now.usec / 1000)
end

local function room_of(backend)
    local room = rooms[backend]
    if room == nil then
        room = { waiting = 0, read_at = 0, up = false, replaced = false, rounds = {}, swept_at = 0 }
        rooms[backend] = room
    end
    return room
end

local function is_up(backend, room, now)
    if now - room.read_at >= TICK_MS or now < room.read_at then
        room.read_at = now
        -- "act" counts the servers that take requests, without the backup that led here.
        room.up = (tonumber(core.backends[backend]:get_stats()["act"]) or 0) > 0
        -- A process that is being replaced is told of no more replicas. What waits in it goes on to its backup server,
        -- and that is the waiting room of the new process: the socket has the same path.
        room.replaced = room.up == false and tonumber(core.get_info()["Stopping"]) == 1
    end
    return room.up or room.replaced
end

local function wait(backend, room, deadline, most)
    if room.waiting >= most then
        return false
    end
    room.waiting = room.waiting + 1
    local now = now_ms()
    while not is_up(backend, room, now) and now < deadline do
        core.msleep(TICK_MS)
        now = now_ms()
    end
    room.waiting = room.waiting - 1
    return room.up or room.replaced
end

local function refuse_http(txn)
    local reply = txn:reply({ status = 529, reason = "No Replica", body = "No replica became ready in time.\n" })
    reply:add_header("Content-Type", "text/plain")
    reply:add_header("Retry-After", "1")
    txn:done(reply)
end

-- The header carries the deadline from round to round. A client that sends it itself can only shorten its own wait.
core.register_action("wait_http", { "http-req" }, function(txn, backend, wait_ms, most)
    local deadline = now_ms() + tonumber(wait_ms)
    local past = txn.http:req_get_headers()[HEADER]
    local rounds = 0
    if past ~= nil then
        local text = past[#past] or past[0]
        local first, count = string.match(text or "", "^(%d+) (%d+)$")
        deadline = math.min(deadline, tonumber(first) or deadline)
        rounds = tonumber(count) or 0
    end
    if rounds >= ROUNDS_MAX or not wait(backend, room_of(backend), deadline, tonumber(most)) then
        refuse_http(txn)
        return
    end
    txn.http:req_set_header(HEADER, string.format("%d %d", deadline, rounds + 1))
end, 3)

-- Bytes carry no header: a client's connection that comes back is known by its address.
local function rounds_of(room, txn, now, wait_ms)
    if now - room.swept_at > 2 * wait_ms then
        room.swept_at = now
        for key, entry in pairs(room.rounds) do
            if now > entry.deadline then
                room.rounds[key] = nil
            end
        end
    end
    local key = tostring(txn.f:src()) .. " " .. tostring(txn.f:src_port())
    local entry = room.rounds[key]
    if entry == nil or now > entry.deadline + wait_ms then
        entry = { count = 0, deadline = now + wait_ms }
        room.rounds[key] = entry
    end
    entry.count = entry.count + 1
    return entry
end

core.register_action("wait_tcp", { "tcp-req" }, function(txn, backend, wait_ms, most)
    local room = room_of(backend)
    local entry = rounds_of(room, txn, now_ms(), tonumber(wait_ms))
    if entry.count > ROUNDS_MAX or not wait(backend, room, entry.deadline, tonumber(most)) then
        txn:set_var("txn.refused", true)
    end
end, 3)
