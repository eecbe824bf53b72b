// The environment of the collector.
import { z } from 'zod';
import { commonShape, port } from '@penstock/service/config';

export const collectorConfig = z.object({
  ...commonShape,
  DATABASE_URL: z.url({ protocol: /^postgres(ql)?$/ }),
  GRPC_HOST: z.string().default('127.0.0.1'),
  GRPC_PORT: port.default(0),
  /** Connections to PostgreSQL for openings and look-ups; appends and flushes have WRITERS of their own. */
  DATABASE_CONNECTIONS: z.coerce.number().int().min(4).max(100).default(8),
  /** At most this long from commit to counter. */
  FLUSH_MS: z.coerce.number().int().min(50).max(1_000).default(1_000),
});

/** Appends (GROUP_LIMITS.groupsMax) and one flush at a time. */
export const WRITERS = 3;

// Every statement of the collector looks up sets by key. A plan that was made while a table was small (and prepared
// plans live as long as their connection) would scan it: 10 s instead of 5 ms for 500 periods, seen with a counter table
// that had just begun to fill. So these sessions know nested loops over indexes only, and plan once.
const PLANNER = [
  'enable_seqscan=off',
  'enable_hashjoin=off',
  'enable_mergejoin=off',
  'plan_cache_mode=force_generic_plan',
];

/** The database's address with the planner settings of the collector's sessions. */
export function keyedSessions(url: string): string {
  const address = new URL(url);
  address.searchParams.set('options', PLANNER.map((setting) => `-c ${setting}`).join(' '));
  return address.toString().replaceAll('+', '%20');
}
