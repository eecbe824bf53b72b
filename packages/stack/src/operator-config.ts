// What the operator has set for this installation beside the environment: config.json of the data directory. One
// writer at a time, replaced in one step: after any number of writers, and a crash of any, it is one valid file with
// all that was written. Read by the stack at its start, changed by `penstock config`.
import { join } from 'node:path';
import { z } from 'zod';
import { AppError } from '@penstock/domain/errors';
import { parseAdminCidrs, PRIVATE_CIDRS } from '@penstock/service/admin-cidrs';
import { readIfThere, writePrivate } from './files.js';
import { takeLock } from './lock.js';

const FILE = 'config.json';
const LOCK = 'config.lock';
const LOCK_EVERY_MS = 10;
const CIDRS_MAX = 200;
const CIDR = /^[0-9a-fA-F.:]{2,45}\/\d{1,3}$/;

const configSchema = z.strictObject({
  /** Where sensitive routes are served to. */
  adminCidrs: z.array(z.string().max(50)).min(1).max(CIDRS_MAX),
});

export type OperatorConfig = z.output<typeof configSchema>;

/** What is set below `dir`; the private ranges when nothing is. Throws failed_precondition for a file that is not ours. */
export async function readOperatorConfig(dir: string): Promise<OperatorConfig> {
  const text = await readIfThere(join(dir, FILE));
  if (text === null) return { adminCidrs: [...PRIVATE_CIDRS] };
  try {
    const config = configSchema.parse(JSON.parse(text));
    parseAdminCidrs(config.adminCidrs.join(','));
    return config;
  } catch (cause) {
    throw new AppError('failed_precondition', `${join(dir, FILE)} is not usable; mend it or remove it.`, {
      cause,
    });
  }
}

// Two changes of one process would meet at its own lock.
let last: Promise<unknown> = Promise.resolve();

/** Adds a range to those that sensitive routes are served to. Throws invalid_input for one that is not usable. */
export function allowCidr(dir: string, cidr: string): Promise<OperatorConfig> {
  return change(dir, (config) => {
    if (!CIDR.test(cidr))
      throw new AppError('invalid_input', `${cidr} is not a range such as 203.0.113.7/32`);
    parseAdminCidrs(cidr);
    if (config.adminCidrs.includes(cidr)) return config;
    if (config.adminCidrs.length >= CIDRS_MAX)
      throw new AppError('limit_reached', `there are ${CIDRS_MAX} ranges already`);
    return { ...config, adminCidrs: [...config.adminCidrs, cidr] };
  });
}

/** Takes a range away. Throws not_found for one that is not there, invalid_input for the last. */
export function forbidCidr(dir: string, cidr: string): Promise<OperatorConfig> {
  return change(dir, (config) => {
    const left = config.adminCidrs.filter((one) => one !== cidr);
    if (left.length === config.adminCidrs.length)
      throw new AppError('not_found', `${cidr} is not allowed anyway`);
    if (left.length === 0)
      throw new AppError('invalid_input', 'the last range cannot be taken away: nobody could administer');
    return { ...config, adminCidrs: left };
  });
}

function change(dir: string, make: (config: OperatorConfig) => OperatorConfig): Promise<OperatorConfig> {
  const mine = last.then(async () => {
    const lock = await takeLock(join(dir, LOCK), () => undefined, {
      everyMs: LOCK_EVERY_MS,
      busy: 'another command changes the configuration',
    });
    try {
      const before = await readOperatorConfig(dir);
      const after = make(before);
      if (after !== before) await writePrivate(join(dir, FILE), `${JSON.stringify(after, null, 2)}\n`);
      return after;
    } finally {
      await lock.release();
    }
  });
  last = mine.catch(() => undefined);
  return mine;
}
