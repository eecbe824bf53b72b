// Usage that the collector kept but did not bill, and the wishes that it is billed after all. The collector is the only
// writer of the usage; here a wish is inserted, which it takes in the transaction that bills.
import type { NodeId, SubscriptionId } from '@penstock/domain/ids';
import { AppError } from '@penstock/domain/errors';
import { engineNumber, type Engine } from '@penstock/domain/terms';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import {
  RELEASE_ROWS_MAX,
  type QuarantineId,
  type QuarantineQuery,
  type QuarantineReason,
  type Release,
} from './quarantine.schema.js';

export interface Quarantined {
  quarantineId: QuarantineId;
  nodeId: NodeId;
  subscriptionId: SubscriptionId;
  engine: Engine;
  upBytes: bigint;
  downBytes: bigint;
  reason: QuarantineReason;
  createdAt: Date;
  releaseAskedAt: Date | null;
  releasedAt: Date | null;
}

const selectPage = statement<Quarantined>(
  'quarantine.page',
  `SELECT q.quarantine_id AS "quarantineId", q.node_id AS "nodeId", q.subscription_id AS "subscriptionId",
          CASE q.engine WHEN ${engineNumber.xray} THEN 'xray' ELSE 'wireguard' END AS engine,
          q.up_bytes AS "upBytes", q.down_bytes AS "downBytes", q.reason, q.created_at AS "createdAt",
          r.asked_at AS "releaseAskedAt", q.released_at AS "releasedAt"
     FROM usage_quarantine q
     LEFT JOIN quarantine_release r ON r.tenant_id = q.tenant_id AND r.quarantine_id = q.quarantine_id
    WHERE q.tenant_id = $1 AND ($2::uuid IS NULL OR q.quarantine_id > $2) AND ($4::uuid IS NULL OR q.node_id = $4)
      AND ($5::uuid IS NULL OR q.subscription_id = $5) AND ($6::text IS NULL OR q.reason = $6)
      AND ($7::boolean IS NULL OR (q.released_at IS NOT NULL) = $7)
    ORDER BY q.quarantine_id LIMIT $3`,
);

/** One row more than a page holds; the oldest first. */
export function listQuarantined({ actor, client }: Acting, query: QuarantineQuery): Promise<Quarantined[]> {
  const { cursor, limit, nodeId, subscriptionId, reason, released } = query;
  return run(client, selectPage, [
    ...[actor.tenantId, cursor ?? null, limit + 1, nodeId ?? null, subscriptionId ?? null, reason ?? null],
    released === undefined ? null : released === 'true',
  ]);
}

const selectKnown = statement<{ node: boolean; subscription: boolean; ids: boolean }>(
  'quarantine.known',
  `SELECT $3::uuid IS NULL OR EXISTS (
            SELECT FROM node n WHERE n.node_id = $3 AND (n.owner_tenant_id IS NULL OR n.owner_tenant_id = $1 OR $2))
            OR EXISTS (SELECT FROM usage_quarantine q WHERE q.tenant_id = $1 AND q.node_id = $3) AS node,
          $4::uuid IS NULL OR EXISTS (SELECT FROM subscription s WHERE s.tenant_id = $1 AND s.subscription_id = $4)
            OR EXISTS (SELECT FROM usage_quarantine q WHERE q.tenant_id = $1 AND q.subscription_id = $4) AS subscription,
          coalesce(cardinality($5::uuid[]), 0) = (
            SELECT count(*) FROM usage_quarantine q WHERE q.tenant_id = $1 AND q.quarantine_id = ANY ($5::uuid[])) AS ids`,
);

/** Throws not_found naming the field for what the tenant has not and cannot see. */
export async function requireKnown({ actor, client }: Acting, wish: Release): Promise<void> {
  const { quarantineIds, nodeId, subscriptionId } = wish;
  const [known] = await run(client, selectKnown, [
    ...[actor.tenantId, actor.platform, nodeId ?? null, subscriptionId ?? null],
    quarantineIds === undefined ? null : [...new Set(quarantineIds)],
  ]);
  const missing = (field: string): AppError =>
    new AppError('not_found', `${field}: there is no such`, { field });
  if (known?.node !== true) throw missing('nodeId');
  if (!known.subscription) throw missing('subscriptionId');
  if (!known.ids) throw missing('quarantineIds');
}

export interface Asked {
  rows: number;
  upBytes: string;
  downBytes: string;
}

const insertWishes = statement<Asked>(
  'quarantine.release',
  `WITH chosen AS (
     SELECT q.quarantine_id, q.up_bytes, q.down_bytes FROM usage_quarantine q
      WHERE q.tenant_id = $1 AND q.released_at IS NULL AND ($4::uuid[] IS NULL OR q.quarantine_id = ANY ($4))
        AND ($5::uuid IS NULL OR q.node_id = $5) AND ($6::uuid IS NULL OR q.subscription_id = $6)
        AND ($7::text IS NULL OR q.reason = $7)
        AND NOT EXISTS (SELECT FROM quarantine_release r WHERE r.tenant_id = $1 AND r.quarantine_id = q.quarantine_id)
      ORDER BY q.quarantine_id LIMIT $8
   ), wished AS (
     INSERT INTO quarantine_release (tenant_id, quarantine_id, asked_at, asked_by)
     SELECT $1, quarantine_id, $2, $3 FROM chosen ORDER BY quarantine_id ON CONFLICT DO NOTHING RETURNING quarantine_id
   )
   SELECT count(*)::int AS rows, coalesce(sum(c.up_bytes), 0)::text AS "upBytes",
          coalesce(sum(c.down_bytes), 0)::text AS "downBytes"
     FROM wished JOIN chosen c USING (quarantine_id)`,
);

/** Wishes that what fits is billed, the oldest first and so many at most; what was wished for before is left out. */
export async function askRelease({ actor, client, at }: Acting, wish: Release): Promise<Asked> {
  const { quarantineIds, nodeId, subscriptionId, reason } = wish;
  const [asked] = await run(client, insertWishes, [
    ...[actor.tenantId, at, actor.accountId, quarantineIds ?? null, nodeId ?? null],
    ...[subscriptionId ?? null, reason ?? null, RELEASE_ROWS_MAX],
  ]);
  return asked ?? { rows: 0, upBytes: '0', downBytes: '0' };
}
