// The sign-in gate's memory in Redis, each question in one step: backoff.ts in Lua. KEYS: the pair, its name. A pair is
// "failures:next" with next in milliseconds of the server's clock; what cannot be one is taken for none.
import type { Script } from '../redis.js';
import {
  delayMs,
  FREE_TRIES,
  PAIR_KEPT_MS,
  PRESSURE_KEPT_MS,
  PRESSURE_MIN,
  SLOW_MAX_MS,
  SLOW_STEP_MS,
} from './backoff.js';

const FAILURES_TOLD = 40;

export const gateScript: Script = {
  name: 'penstockGate',
  lua: `
local time = redis.call('TIME')
local now = math.floor(time[1] * 1000 + time[2] / 1000)
local asked, kept = ARGV[1], ${PAIR_KEPT_MS}
local function delay(failures)
  if failures <= ${FREE_TRIES} then return 0 end
  return math.min(${delayMs(FAILURES_TOLD)}, ${delayMs(FREE_TRIES + 1)} * 2 ^ math.min(30, failures - ${FREE_TRIES + 1}))
end
local function keep(failures, after)
  redis.call('SET', KEYS[1], string.format('%d:%.0f', failures, now + after), 'PX', kept)
end
local failures, next = string.match(redis.call('GET', KEYS[1]) or '', '^(%d%d?%d?%d?%d?):(%d+)$')
failures, next = tonumber(failures), tonumber(next)
if asked == 'enter' then
  if failures and now < next then return math.min(next - now, ${delayMs(FAILURES_TOLD)}) end
  if not failures then
    local pressure = tonumber(redis.call('GET', KEYS[2]) or '') or 0
    if pressure >= ${PRESSURE_MIN} then
      local slow = math.min(${SLOW_MAX_MS}, math.floor(${SLOW_STEP_MS} * pressure / ${PRESSURE_MIN}))
      keep(0, slow)
      return slow
    end
  end
  failures = math.min((failures or 0) + 1, 99999)
  keep(failures, delay(failures))
elseif asked == 'failed' then
  redis.call('INCR', KEYS[2])
  redis.call('PEXPIRE', KEYS[2], ${PRESSURE_KEPT_MS})
elseif asked == 'succeeded' then
  redis.call('DEL', KEYS[1])
elseif asked == 'undecided' and failures and failures > 0 then
  keep(failures - 1, delay(failures - 1))
end
return 0
`,
};
