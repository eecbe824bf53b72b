// A token bucket in Redis, in one step, by the server's clock: gcra.ts in Lua. Its value is the microsecond at which
// it is full; what cannot be one is taken for a full bucket, what is too far away for an empty one.
import type { Script } from '../redis.js';

/** ARGV: burst, microseconds a token, tokens wanted (negative: given back). → granted, left, wait ms, full in ms. */
export const bucketScript: Script = {
  name: 'penstockTake',
  lua: `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local burst, refill, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local from = tonumber(redis.call('GET', KEYS[1]) or '') or now
if not (from > now) then from = now end
if from > now + burst * refill then from = now + burst * refill end
local left = math.floor(burst - (from - now) / refill + 1e-6)
local granted = wanted
if wanted > 0 then granted = math.max(0, math.min(wanted, left)) end
local full = math.max(now, from + granted * refill)
if full > now then
  redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000))
else
  redis.call('DEL', KEYS[1])
end
local wait = 0
if wanted > 0 and granted == 0 then
  wait = math.max(1, math.ceil((from + refill - now - burst * refill) / 1000))
end
return {granted, math.max(0, left - granted), wait, math.ceil((full - now) / 1000)}
`,
};

export interface BucketAnswer {
  granted: number;
  remaining: number;
  retryAfterMs: number;
  fullInMs: number;
}

/** The script's answer, checked: whatever else comes is no answer (null). */
export function readBucketAnswer(answer: unknown): BucketAnswer | null {
  if (!Array.isArray(answer) || answer.length !== 4) return null;
  const [granted, remaining, retryAfterMs, fullInMs] = answer as unknown[];
  const numbers = [granted, remaining, retryAfterMs, fullInMs];
  if (!numbers.every((value) => typeof value === 'number' && Number.isSafeInteger(value))) return null;
  return { granted, remaining, retryAfterMs, fullInMs } as BucketAnswer;
}
