//! The scripts that Redis runs whole.

use redis::Script;

/// Keys: the line, the owners in it. Arguments: what keys of owners begin with, the job, its owner, when it came (or nothing), and the lifetimes of owners
/// and of the line. Answer: when it came, whether it is the first, whether it was not there.
const LINE_UP: &str = r"
local line, owners = KEYS[1], KEYS[2]
local prefix, job, owner, since = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
redis.call('SET', prefix .. owner, 1, 'PX', ARGV[5])
local there = redis.call('ZSCORE', line, job)
if not there then
  if since == '' then
    local now = redis.call('TIME')
    since = now[1] .. string.format('%06d', now[2])
  end
  redis.call('ZADD', line, since, job)
else
  since = string.format('%.0f', tonumber(there))
end
redis.call('HSET', owners, job, owner)
redis.call('PEXPIRE', line, ARGV[6])
redis.call('PEXPIRE', owners, ARGV[6])
local first = redis.call('ZRANGE', line, 0, 0)[1]
while first ~= job do
  local has_it = redis.call('HGET', owners, first)
  if has_it and redis.call('EXISTS', prefix .. has_it) == 1 then break end
  redis.call('ZREM', line, first)
  redis.call('HDEL', owners, first)
  first = redis.call('ZRANGE', line, 0, 0)[1]
end
return {since, first == job and 1 or 0, there and 0 or 1}
";

/// Keys: the line, the owners in it. Arguments: the job, its owner, the channel, the tenant.
const LEAVE: &str = r"
local line, owners = KEYS[1], KEYS[2]
local job, owner = ARGV[1], ARGV[2]
if redis.call('HGET', owners, job) ~= owner then return end
redis.call('HDEL', owners, job)
redis.call('ZREM', line, job)
local first = redis.call('ZRANGE', line, 0, 0)[1]
if first then redis.call('PUBLISH', ARGV[3], 'turn ' .. ARGV[4] .. ' ' .. first) end
";

/// Keys: the events, the record, the tenant's list. Arguments: the channel, the tenant, the job, the record, when it was accepted, how many records are kept, the
/// lifetime, the number before the first event, and then number and event again and again. Answer: the number of the last event that is there now.
const PUBLISH: &str = r"
local events, record, list = KEYS[1], KEYS[2], KEYS[3]
local last = 0
local tail = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)
if #tail > 0 then last = tonumber(string.match(tail[1][1], '^%d+')) end
redis.call('SET', record, ARGV[4], 'PX', ARGV[7])
redis.call('ZADD', list, ARGV[5], ARGV[3])
redis.call('ZREMRANGEBYRANK', list, 0, -1 - ARGV[6])
redis.call('PEXPIRE', list, ARGV[7])
local has_grown = false
if last >= tonumber(ARGV[8]) then
  for i = 9, #ARGV, 2 do
    if tonumber(ARGV[i]) > last then
      redis.call('XADD', events, ARGV[i] .. '-0', 'e', ARGV[i + 1])
      last = tonumber(ARGV[i])
      has_grown = true
    end
  end
end
redis.call('PEXPIRE', events, ARGV[7])
if has_grown then redis.call('PUBLISH', ARGV[1], 'events ' .. ARGV[2] .. ' ' .. ARGV[3]) end
return last
";

/// Keys: the tenant's list. Arguments: what keys of records begin with, how many are wanted. Answer: the records that are there, the newest first.
const RECORDS: &str = r"
local found = {}
for _, job in ipairs(redis.call('ZREVRANGE', KEYS[1], 0, ARGV[2] - 1)) do
  local record = redis.call('GET', ARGV[1] .. job)
  if record then found[#found + 1] = record end
end
return found
";

/// The scripts, each known to Redis by its digest once it has run.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) line_up: Script,
    pub(super) leave: Script,
    pub(super) publish: Script,
    pub(super) records: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            line_up: Script::new(LINE_UP),
            leave: Script::new(LEAVE),
            publish: Script::new(PUBLISH),
            records: Script::new(RECORDS),
        }
    }
}
