// The scheduler's environment.
import { z } from 'zod';
import { commonShape, port, secretKey } from '@penstock/service/config';
import { parseCidrs } from '@penstock/service/ops-server';

const cidrs = z.string().transform((text, context) => {
  try {
    if (text !== '') parseCidrs(text, 'WEBHOOK_EGRESS_ALLOW');
    return text === '' ? [] : text.split(',').map((part) => part.trim());
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message });
    return z.NEVER;
  }
});

export const configSchema = z.object({
  ...commonShape,
  /** Node edge and service edge: client certificates required. */
  GRPC_HOST: z.string().default('127.0.0.1'),
  GRPC_PORT: port.default(0),
  /** Enrollment edge: server certificate only, Enroll and Reattest only. */
  ENROLL_HOST: z.string().default('127.0.0.1'),
  ENROLL_PORT: port.default(0),
  DATABASE_URL: z.string(),
  /** Login that may become the tables' owner; makes partitions. */
  PARTITIONS_DATABASE_URL: z.string(),
  DATA_KEY: secretKey,
  CA_DIR: z.string(),
  HEARTBEAT_MS: z.coerce.number().int().min(500).max(60_000).default(5_000),
  /** A node whose certificate ran out longer ago waits for an admin's approval; 0: each one does, 720: none. */
  REATTEST_AUTOMATIC_HOURS: z.coerce.number().int().min(0).max(720).default(168),
  /** The ends of the audit chains are added to this file each hour: keep copies of it elsewhere. */
  AUDIT_HEADS_FILE: z.string().min(1).optional(),
  /** Networks that webhooks may reach although they are not on the public internet; CIDRs with commas, none by default. */
  WEBHOOK_EGRESS_ALLOW: cidrs.default([]),
  /** Length of a window on the nodes. */
  WINDOW_MS: z.coerce.number().int().min(1_000).max(60_000).default(5_000),
});

export type SchedulerConfig = Readonly<z.output<typeof configSchema>>;
