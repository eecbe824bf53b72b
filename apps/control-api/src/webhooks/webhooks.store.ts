// Webhooks of a tenant. URL and secrets go in sealed and never come out here.
import { AppError } from '@penstock/domain/errors';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { PageQuery } from '../http/fields.js';
import type { WebhookId } from '@penstock/domain/ids';

export interface Webhook {
  webhookId: WebhookId;
  name: string;
  origin: string;
  events: string[];
  enabled: boolean;
  disabledReason: string | null;
  failures: number;
  version: number;
  createdAt: Date;
}

const COLUMNS = `w.webhook_id AS "webhookId", w.name, w.origin, w.events, w.enabled,
  w.disabled_reason AS "disabledReason", coalesce(h.failures, 0) AS failures, w.version, w.created_at AS "createdAt"`;
const FROM = `FROM webhook w LEFT JOIN webhook_health h
  ON h.tenant_id = w.tenant_id AND h.webhook_id = w.webhook_id`;

const lockTenant = statement(
  'webhook.lock_tenant',
  `SELECT pg_advisory_xact_lock(hashtextextended('webhook ' || $1::text, 0))`,
);
const countRows = statement<{ count: number }>(
  'webhook.count',
  `SELECT count(*)::int AS count FROM webhook WHERE tenant_id = $1`,
);

/** How many the tenant has; makers of one tenant follow each other. */
export async function countWebhooks({ actor, client }: Acting): Promise<number> {
  await run(client, lockTenant, [actor.tenantId]);
  return (await run(client, countRows, [actor.tenantId]))[0]?.count ?? 0;
}

export interface SealedUrl {
  url: Buffer;
  origin: string;
}

const insertRow = statement(
  'webhook.insert',
  `INSERT INTO webhook (tenant_id, webhook_id, name, url, origin, events, secret, created_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
);

export async function insertWebhook(
  { actor, client, at }: Acting,
  id: WebhookId,
  row: SealedUrl & { name: string; events: string[]; secret: Buffer },
): Promise<void> {
  const { name, url, origin, events, secret } = row;
  await run(client, insertRow, [actor.tenantId, id, name, url, origin, events, secret, at]);
}

const selectPage = statement<Webhook>(
  'webhook.page',
  `SELECT ${COLUMNS} ${FROM} WHERE w.tenant_id = $1 AND ($2::uuid IS NULL OR w.webhook_id > $2)
    ORDER BY w.webhook_id LIMIT $3`,
);

/** One row more than a page holds. */
export function listWebhooks({ actor, client }: Acting, query: PageQuery): Promise<Webhook[]> {
  return run(client, selectPage, [actor.tenantId, query.cursor ?? null, query.limit + 1]);
}

const selectOne = statement<Webhook>(
  'webhook.get',
  `SELECT ${COLUMNS} ${FROM} WHERE w.tenant_id = $1 AND w.webhook_id = $2`,
);

/** Throws not_found. */
export async function getWebhook({ actor, client }: Acting, id: WebhookId): Promise<Webhook> {
  const [row] = await run(client, selectOne, [actor.tenantId, id]);
  if (row === undefined) throw new AppError('not_found', 'there is no such webhook');
  return row;
}

const lockRow = statement(
  'webhook.lock',
  `SELECT FROM webhook WHERE tenant_id = $1 AND webhook_id = $2 FOR NO KEY UPDATE`,
);

/** Changes of one webhook follow each other. */
export async function lockWebhook({ actor, client }: Acting, id: WebhookId): Promise<void> {
  await run(client, lockRow, [actor.tenantId, id]);
}

const updateRow = statement(
  'webhook.update',
  `UPDATE webhook SET name = coalesce($3, name), url = coalesce($4, url), origin = coalesce($5, origin),
          events = coalesce($6, events), enabled = coalesce($7, enabled),
          disabled_reason = CASE WHEN $7 THEN NULL ELSE disabled_reason END, version = version + 1
    WHERE tenant_id = $1 AND webhook_id = $2`,
);
const dropWaiting = statement(
  'webhook.drop_waiting',
  `UPDATE webhook_delivery SET state = 'failed', error = 'webhook_disabled', done_at = $3
    WHERE tenant_id = $1 AND webhook_id = $2 AND state = 'pending'`,
);
const forgetFailures = statement(
  'webhook.forget_failures',
  `DELETE FROM webhook_health WHERE tenant_id = $1 AND webhook_id = $2`,
);

/** What waits for one that is switched off is over. */
export async function updateWebhook(
  { actor, client, at }: Acting,
  id: WebhookId,
  change: { name?: string | undefined; events?: string[] | undefined; enabled?: boolean | undefined },
  sealed: SealedUrl | null,
): Promise<void> {
  const { name = null, events = null, enabled = null } = change;
  await run(client, updateRow, [
    ...[actor.tenantId, id, name, sealed?.url ?? null, sealed?.origin ?? null, events, enabled],
  ]);
  if (enabled === true) await run(client, forgetFailures, [actor.tenantId, id]);
  if (enabled === false) await run(client, dropWaiting, [actor.tenantId, id, at]);
}

const rotateRow = statement(
  'webhook.rotate',
  `UPDATE webhook SET old_secret = secret, old_until = $4, secret = $3, version = version + 1
    WHERE tenant_id = $1 AND webhook_id = $2`,
);

/** The secret before signs too until `until`. */
export async function rotateSecret(
  { actor, client }: Acting,
  id: WebhookId,
  secret: Buffer,
  until: Date,
): Promise<void> {
  await run(client, rotateRow, [actor.tenantId, id, secret, until]);
}

const deleteRow = statement('webhook.delete', `DELETE FROM webhook WHERE tenant_id = $1 AND webhook_id = $2`);

export async function deleteWebhook({ actor, client }: Acting, id: WebhookId): Promise<void> {
  await run(client, deleteRow, [actor.tenantId, id]);
}
