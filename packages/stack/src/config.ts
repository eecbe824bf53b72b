// Environment of npm start and of the engine command: what an operator may set. Everything has a default.
import { z } from 'zod';
import { port } from '@penstock/service/config';

export const startConfigSchema = z.object({
  /** Where the data is kept; default .penstock in the clone. */
  PENSTOCK_DIR: z.string().optional(),
  PENSTOCK_EDGE: z.enum(['direct', 'caddy']).default('direct'),
  /** Fixed port of the API; a busy one is an error. */
  HTTP_PORT: port.optional(),
  HTTP_HOST: z.string().default('127.0.0.1'),
  /** Where the edges for nodes listen, and the DNS name by which other machines reach them. */
  EDGE_HOST: z.string().default('127.0.0.1'),
  EDGE_NAME: z.string().default('localhost'),
  PUBLIC_URL: z.url({ protocol: /^https?$/ }).optional(),
  POSTGRES_PORT: port.optional(),
  REDIS_URL: z.url({ protocol: /^rediss?$/ }).optional(),
  /** Address of this machine in customers' links to the local node. */
  LOCAL_NODE_ADDRESS: z.string().default('127.0.0.1'),
  LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
  XRAY_BIN: z.string().optional(),
  WIREGUARD_GO_BIN: z.string().optional(),
  PATH: z.string().default('/usr/local/bin:/usr/bin:/bin'),
  HOME: z.string().default('/nonexistent'),
  /** Descriptor of a pipe whose end means that whoever started us is gone. */
  PENSTOCK_OWNER_FD: z.coerce.number().int().min(3).max(9).optional(),
});

export type StartConfig = Readonly<z.output<typeof startConfigSchema>>;
