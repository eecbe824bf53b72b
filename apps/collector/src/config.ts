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

/** One append and one flush at a time. */
export const WRITERS = 2;
