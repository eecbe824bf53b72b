// Bills quarantined usage that somebody released (control-api leaves the wish in quarantine_release). Invariant: the wish
// ends, released_at is set, the counters and the series grow in one transaction; frames are not counted again, because a replay
// leaves out what was quarantined whether it was released or not. Run every few seconds by the collector.
import type { Client, Pool } from '@penstock/db/pool';
import { run } from '@penstock/db/statement';
import { withTransaction } from '@penstock/db/transaction';
import type { Clock } from '@penstock/domain/clock';
import type { Logger } from '@penstock/service/logger';
import { decodeHeader } from '@penstock/ledger/frame';
import { FLAG_IMPLAUSIBLE_CLOCK } from './accept.js';
import { addToMonths } from './months.store.js';
import { billReleased, listReleaseTenants, takeReleases, type ReleasedRow } from './release.store.js';
import { addToSeries, releasedColumns } from './series.store.js';

export const RELEASE_MS = 2_000;
/** One transaction. */
const ROWS_MAX = 1_000;
/** One pass. */
const TENANTS_MAX = 64;

/** Bills what waits, a batch of each tenant; returns how many rows. Safe beside others that do the same. */
export async function billReleases(pool: Pool, clock: Clock, log: Logger): Promise<number> {
  let count = 0;
  for (const { tenantId } of await run(pool, listReleaseTenants, [TENANTS_MAX])) {
    const at = new Date(clock.now());
    const billed = await withTransaction(pool, (client) => billTenant(client, tenantId, at), {
      tenantIds: [tenantId],
    });
    if (billed > 0) log.info({ tenantId, count: billed }, 'quarantined usage was released and billed');
    count += billed;
  }
  return count;
}

async function billTenant(client: Client, tenantId: string, at: Date): Promise<number> {
  const rows = await run(client, takeReleases, [tenantId, ROWS_MAX, at]);
  if (rows.length === 0) return 0;
  const [billed] = await run(client, billReleased, [
    tenantId,
    rows.map((row) => row.nodeId),
    rows.map((row) => row.subscriptionId),
    rows.map((row) => new Date(billedAtMs(row))),
    rows.map((row) => row.upBytes.toString()),
    rows.map((row) => row.downBytes.toString()),
    at,
  ]);
  if (billed?.count !== BigInt(rows.length)) throw new Error('a released row found no period or multiplier');
  const billable = billed.billable ?? [];
  const bytes = billable.reduce((sum, one) => sum + one, 0n);
  if (bytes > 0n) await addToMonths(client, [{ tenant: tenantId, bytes }]);
  await addToSeries(
    client,
    releasedColumns(
      rows.map((row, i) => ({ ...row, tenantId, atMs: billedAtMs(row), billableBytes: billable[i] ?? 0n })),
    ),
  );
  return rows.length;
}

/** The moment that the frame's usage counts at: the end of its window, else its acceptance. */
function billedAtMs({ header, flags, acceptedAt, createdAt }: ReleasedRow): number {
  if (header === null || acceptedAt === null) return createdAt.getTime();
  if (((flags ?? 0) & FLAG_IMPLAUSIBLE_CLOCK) !== 0) return acceptedAt.getTime();
  const { windowStartMs, windowMs } = decodeHeader(header).header;
  return windowStartMs + windowMs;
}
