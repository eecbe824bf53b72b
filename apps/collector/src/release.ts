// Bills quarantined usage that somebody released (control-api leaves the wish in quarantine_release). Invariant: the wish
// ends, released_at is set, the counters and the series grow in one transaction; frames are not counted again, because a replay
// leaves out what was quarantined whether it was released or not. Run every few seconds by the collector. Tenants take
// turns, and one whose usage cannot be billed keeps nobody else waiting.
import { isConnectionError } from '@penstock/db/errors';
import type { Client, Pool } from '@penstock/db/pool';
import { run } from '@penstock/db/statement';
import { withTransaction } from '@penstock/db/transaction';
import type { Clock } from '@penstock/domain/clock';
import type { Logger } from '@penstock/service/logger';
import { decodeHeader } from '@penstock/ledger/frame';
import { FLAG_IMPLAUSIBLE_CLOCK } from './accept.js';
import type { CollectorMetrics } from './metrics.js';
import { addToMonths } from './months.store.js';
import { billReleased, listReleaseTenants, takeReleases, type ReleasedRow } from './release.store.js';
import { addToSeries, releasedColumns } from './series.store.js';

export const RELEASE_MS = 2_000;
/** One transaction. */
const ROWS_MAX = 1_000;
/** One pass. */
export const RELEASE_TENANTS_MAX = 64;
/** What has no period to count in is looked at again after this. */
export const NO_PERIOD_RETRY_MS = 60_000;

const BEFORE_ALL = '00000000-0000-0000-0000-000000000000';

export class Releases {
  /** The tenant of the last turn. */
  private last = BEFORE_ALL;
  private running = false;
  /** Tenants whose usage could not be billed: told once, not every two seconds. */
  private readonly failing = new Set<string>();

  constructor(
    private readonly pool: Pool,
    private readonly clock: Clock,
    private readonly log: Logger,
    private readonly metrics: CollectorMetrics,
  ) {}

  /**
   * Bills what waits, a batch of each tenant; returns how many rows: none while a pass is under way. Safe beside other
   * processes that do the same. Throws when the database is away.
   */
  async bill(): Promise<number> {
    if (this.running) return 0;
    this.running = true;
    try {
      let count = 0;
      for (const tenantId of await this.nextTenants()) count += await this.billOne(tenantId);
      return count;
    } finally {
      this.running = false;
    }
  }

  /** Whoever comes after the last turn, and then from the beginning: each tenant at most once. */
  private async nextTenants(): Promise<string[]> {
    const at = new Date(this.clock.now());
    const list = async (after: string, max: number): Promise<string[]> =>
      (await run(this.pool, listReleaseTenants, [after, at, max])).map((row) => row.tenantId);
    const { last } = this;
    const behind = await list(last, RELEASE_TENANTS_MAX);
    if (last === BEFORE_ALL || behind.length === RELEASE_TENANTS_MAX) return behind;
    const first = await list(BEFORE_ALL, RELEASE_TENANTS_MAX - behind.length);
    return [...behind, ...first.filter((tenantId) => tenantId <= last)];
  }

  private async billOne(tenantId: string): Promise<number> {
    const { pool, clock, log, metrics } = this;
    // Before anything can fail: the next pass begins with the next one.
    this.last = tenantId;
    const at = new Date(clock.now());
    try {
      const { billed, waiting } = await withTransaction(pool, (client) => billTenant(client, tenantId, at), {
        tenantIds: [tenantId],
      });
      this.failing.delete(tenantId);
      if (billed > 0) {
        metrics.released.inc({ result: 'billed' }, billed);
        log.info({ tenantId, count: billed }, 'quarantined usage was released and billed');
      }
      if (waiting > 0) {
        metrics.released.inc({ result: 'no_period' }, waiting);
        log.info({ tenantId, count: waiting }, 'released usage waits, its subscription has no period');
      }
      return billed;
    } catch (error) {
      if (isConnectionError((error as { cause?: unknown }).cause ?? error)) throw error;
      metrics.released.inc({ result: 'failed' });
      if (!this.failing.has(tenantId))
        log.error({ tenantId, error }, 'released usage of a tenant could not be billed, it is tried again');
      this.failing.add(tenantId);
      return 0;
    }
  }
}

async function billTenant(
  client: Client,
  tenantId: string,
  at: Date,
): Promise<{ billed: number; waiting: number }> {
  const retryAt = new Date(at.getTime() + NO_PERIOD_RETRY_MS);
  const taken = await run(client, takeReleases, [tenantId, ROWS_MAX, at, retryAt]);
  const rows = taken.filter((row): row is ReleasedRow => row.nodeId !== null);
  const waiting = taken.length - rows.length;
  if (rows.length === 0) return { billed: 0, waiting };
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
  return { billed: rows.length, waiting };
}

/** The moment that the frame's usage counts at: the end of its window, else its acceptance. */
function billedAtMs({ header, flags, acceptedAt, createdAt }: ReleasedRow): number {
  if (header === null || acceptedAt === null) return createdAt.getTime();
  if (((flags ?? 0) & FLAG_IMPLAUSIBLE_CLOCK) !== 0) return acceptedAt.getTime();
  const { windowStartMs, windowMs } = decodeHeader(header).header;
  return windowStartMs + windowMs;
}
