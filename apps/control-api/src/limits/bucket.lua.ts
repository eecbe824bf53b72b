// Token buckets in Redis, many in one step, by the server's clock: gcra.ts in Lua. A bucket's value is the microsecond at
// which it is full; what cannot be one is taken for a full bucket, what is too far away for an empty one.
import type { Script } from '../redis.js';

/** Longer than any limit takes to fill; what Redis refuses would fail the whole step. */
const KEPT_MS_MAX = 365 * 86_400_000;

/** KEYS: the buckets. ARGV of each: burst, microseconds a token, tokens wanted. → of each: granted, left, wait ms, full in ms. */
export const bucketScript: Script = {
  name: 'penstockTake',
  lua: `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local answers = {}
for i = 1, #KEYS do
  local burst, refill, wanted = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i])
  local value = redis.pcall('GET', KEYS[i])
  local from = type(value) == 'string' and tonumber(value) or now
  if not (from > now) then from = now end
  if from > now + burst * refill then from = now + burst * refill end
  local left = math.floor(burst - (from - now) / refill + 1e-6)
  local granted = math.max(0, math.min(wanted, left))
  local full = from + granted * refill
  if full > now then
    redis.call('SET', KEYS[i], string.format('%.0f', full), 'PX', math.min(${KEPT_MS_MAX}, math.ceil((full - now) / 1000)))
  elseif value then
    redis.call('DEL', KEYS[i])
  end
  local wait = 0
  if granted == 0 then wait = math.max(1, math.ceil((from + refill - now - burst * refill) / 1000)) end
  local at = 4 * i
  answers[at - 3], answers[at - 2], answers[at - 1], answers[at] =
    granted, math.max(0, left - granted), wait, math.ceil((full - now) / 1000)
end
return answers
`,
};

export interface BucketAnswer {
  granted: number;
  remaining: number;
  retryAfterMs: number;
  fullInMs: number;
}

/** The script's answer for the `index`-th of `count` buckets, checked: whatever else comes is no answer (null). */
export function readBucketAnswer(answer: unknown, index: number, count: number): BucketAnswer | null {
  if (!Array.isArray(answer) || answer.length !== 4 * count) return null;
  const [granted, remaining, retryAfterMs, fullInMs] = (answer as unknown[]).slice(4 * index, 4 * index + 4);
  const numbers = [granted, remaining, retryAfterMs, fullInMs];
  if (!numbers.every((value) => typeof value === 'number' && Number.isSafeInteger(value))) return null;
  return { granted, remaining, retryAfterMs, fullInMs } as BucketAnswer;
}
