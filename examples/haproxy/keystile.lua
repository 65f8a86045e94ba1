-- Asks Keystile about the key of a request: the action lua.keystile, which
-- takes the permission that the route needs from txn.keystile_permission.
--
-- A good key lets the request go on, with X-Keystile-* headers that say whose it
-- is. A refusal is answered as Keystile words it. Without an answer of Keystile
-- nobody gets in. Nothing is cached: a revoked key is refused at the next request.

local address = os.getenv("KEYSTILE_ADDRESS")
local timeout = 2000 -- milliseconds

local identity = {
	"x-keystile-key-id", "x-keystile-workspace", "x-keystile-role",
	"x-keystile-environment", "x-keystile-permissions", "x-keystile-owner",
}
-- What Keystile needs to know of a request, and what a client needs to know of
-- a refusal.
local asked = { "authorization", "x-api-key", "user-agent", "x-forwarded-for" }
local told = { "content-type", "www-authenticate", "retry-after", "x-request-id" }

-- answer ends the request with a problem (RFC 9457).
local function answer(txn, status, headers, body)
	local reply = txn:reply()
	reply:set_status(status)
	reply:add_header("cache-control", "no-store")
	for name, value in pairs(headers) do
		reply:add_header(name, value)
	end
	reply:set_body(body)
	txn:done(reply)
end

local function unavailable(txn)
	answer(txn, 503, { ["content-type"] = "application/problem+json", ["retry-after"] = "1" },
		'{"type":"urn:keystile:problem:unavailable","title":"Not available","status":503,"code":"unavailable",'
			.. '"detail":"The key could not be checked just now.",'
			.. '"fixes":["Send the request again after the seconds that the header Retry-After names."]}\n')
end

-- escape makes a value safe in a query string.
local function escape(value)
	return (value:gsub("[^%w%-._~]", function(c) return string.format("%%%02X", string.byte(c)) end))
end

core.register_action("keystile", { "http-req" }, function(txn)
	local permission = txn:get_var("txn.keystile_permission")
	if permission == nil or permission == "" then
		core.Alert("keystile: a route names no permission in txn.keystile_permission; its requests are refused")
		return unavailable(txn)
	end
	local request, ask = txn.http:req_get_headers(), {}
	for _, name in ipairs(asked) do
		if request[name] ~= nil then
			local lines = {}
			for i = 0, #request[name] do -- HAProxy counts the lines of a header from 0
				lines[#lines + 1] = request[name][i]
			end
			ask[name] = lines
		end
	end
	local ok, response = pcall(function()
		return core.httpclient():get({
			url = "http://" .. address .. "/v1/forward-auth?permission=" .. escape(permission),
			headers = ask,
			timeout = timeout,
		})
	end)
	if not ok or response == nil or response.headers == nil then
		return unavailable(txn)
	end
	if response.status == 200 then
		for _, name in ipairs(identity) do
			local value = response.headers[name]
			if value ~= nil then
				txn.http:req_set_header(name, value[0])
			end
		end
		return
	end
	if response.status ~= 401 and response.status ~= 403 then
		return unavailable(txn)
	end
	local headers = {}
	for _, name in ipairs(told) do
		if response.headers[name] ~= nil then
			headers[name] = response.headers[name][0]
		end
	end
	answer(txn, response.status, headers, response.body or "")
end)
