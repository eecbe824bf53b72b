// Environment of the node-agent. Every variable may come from a file: NAME_FILE.
import { z } from 'zod';
import { engines } from '@penstock/domain/terms';
import { commonShape } from '@penstock/service/config';

const engineList = z
  .string()
  .transform((text) => text.split(',').map((part) => part.trim()))
  .pipe(z.array(z.enum(engines)).min(1, 'expected xray, wireguard or both'));

const cidrList = z
  .string()
  .transform((text) =>
    text
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== ''),
  )
  .pipe(z.array(z.string().regex(/^[0-9a-fA-F.:]+\/\d{1,3}$/, 'expected CIDRs')));

const { NODE_ENV, LOG_LEVEL, OPS_HOST, OPS_PORT, OPS_ALLOW, TRUST_DOMAIN } = commonShape;

export const configSchema = z
  .object({
    NODE_ENV,
    LOG_LEVEL,
    OPS_HOST,
    OPS_PORT,
    OPS_ALLOW,
    TRUST_DOMAIN,
    /** Keys, journal, desired state and the engines' runtime files. Made 0700. */
    AGENT_DIR: z.string().min(1),
    /** Needed once. */
    JOIN_TOKEN: z.string().optional(),
    ENGINES: engineList.default(['xray', 'wireguard']),
    XRAY_BIN: z.string().optional(),
    WIREGUARD_GO_BIN: z.string().optional(),
    WG_INTERFACE: z.string().default('penstock0'),
    /** wal: frames survive a crash on disk. amnesia: memory only. Must be stated in production. */
    BUFFER_MODE: z.enum(['wal', 'amnesia']).optional(),
    BUFFER_BYTES_MAX: z.coerce
      .number()
      .int()
      .min(262_144)
      .default(64 * 1024 * 1024),
    WINDOW_MS: z.coerce.number().int().min(1_000).max(60_000).default(5_000),
    /** Private destinations that customers may reach all the same. */
    ALLOW_EGRESS: cidrList.default([]),
    /** 1: end the engines when the agent ends (a development node). Otherwise they go on and are adopted. */
    AGENT_STOP_ENGINES: z.enum(['0', '1']).default('0'),
  })
  .refine((config) => config.NODE_ENV !== 'production' || config.BUFFER_MODE !== undefined, {
    path: ['BUFFER_MODE'],
    message: 'say wal or amnesia',
  });

export type Config = z.output<typeof configSchema>;
