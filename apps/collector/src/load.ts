// Brings into memory what a frame needs: one transaction of set queries, never a query in a loop. The tenants of the
// transaction come from the node's assignments.
import { X509Certificate } from 'node:crypto';
import type { Pool } from '@penstock/db/pool';
import { run } from '@penstock/db/statement';
import { withTransaction } from '@penstock/db/transaction';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import { FIRST_SLICE } from './accept.js';
import { PERIOD_RECHECK_MS, PERIODS_BACK_MS, type Periods } from './crossing.js';
import {
  listAssignments,
  listCertificates,
  listMeters,
  listPeriods,
  listServed,
  type CertificateRow,
  type MeterRow,
} from './load.store.js';
import { findNode, listSliceHeads, termsOf } from './open.store.js';
import type { Known, Missing } from './rows.js';
import type { NodeCertificate, Stream } from './stream.js';

/** Usage this long before an assignment began or after it ended still counts: late reads, a node that was cut off. */
export const ASSIGNMENT_GRACE_MS = 24 * 3_600_000;
/** Assignments, terms of the node and certificates are read again after this. */
export const REFRESH_MS = 60_000;
/**
 * Subscriptions a stream may name that its node does not serve: a node that was away names a few that were removed, one
 * that makes them up fills memory and tables.
 */
export const STRANGERS_MAX = 10_000;

export function hexOf(id: string): string {
  return id.replaceAll('-', '');
}

export class Loader {
  constructor(
    private readonly pool: Pool,
    private readonly periods: Periods,
    private readonly clock: Clock,
  ) {}

  /** Loads what is missing into the stream; the result says what does not exist. */
  async load(stream: Stream, missing: Missing): Promise<Known> {
    const absentTenants = new Set<string>();
    if (missing.tenants.size > 0) {
      const asked = [...missing.tenants].filter((tenant) => !stream.tenants.has(tenant));
      const served = await run(this.pool, listServed, [stream.nodeId, asked]);
      for (const row of served) stream.tenants.set(hexOf(row.tenantId), row.tenantId);
      for (const tenant of asked) if (!stream.tenants.has(tenant)) absentTenants.add(tenant);
    }
    const absentMeters = new Set<string>();
    const subscriptions = [...missing.assignments];
    const periodKeys = [...new Set([...missing.periods, ...subscriptions])].map(
      (s) => stream.subscriptions.keys[s] as string,
    );
    const now = this.clock.now();
    await withTransaction(
      this.pool,
      async (client) => {
        const ends = missing.tenants.size === 0 ? [] : await run(client, listSliceHeads, [stream.nodeId]);
        const meters =
          missing.meters.size === 0
            ? []
            : await run(client, listMeters, [stream.nodeId, [...missing.meters.keys()]]);
        const keys = subscriptions.map((s) => stream.subscriptions.keys[s] as string);
        const assignments =
          keys.length === 0
            ? []
            : await run(client, listAssignments, [
                stream.nodeId,
                keys.map((k) => k.slice(0, 32)),
                keys.map((k) => k.slice(32)),
              ]);
        const periods =
          periodKeys.length === 0
            ? []
            : await run(client, listPeriods, [
                periodKeys.map((k) => k.slice(0, 32)),
                periodKeys.map((k) => k.slice(32)),
                new Date(now - PERIODS_BACK_MS),
              ]);
        const certificates =
          missing.certificate === null
            ? []
            : await run(client, listCertificates, [stream.nodeId, [missing.certificate]]);
        return { ends, meters, assignments, periods, certificates };
      },
      { tenantIds: [...stream.tenants.values()] },
    ).then((found) => {
      const strangers = subscriptions.length - found.assignments.length;
      if (stream.unassigned.size + strangers > STRANGERS_MAX) {
        throw new AppError('not_assigned', 'the node names too many subscriptions that it does not serve');
      }
      takeSliceEnds(stream, missing, found.ends);
      for (const row of found.meters) takeMeter(stream, row);
      const known = new Set(found.meters.map((row) => row.meter.toString()));
      for (const name of missing.meters.keys()) if (!known.has(name)) absentMeters.add(name);
      this.takeAssignments(stream, subscriptions, found.assignments, now);
      this.periods.load(
        periodKeys,
        found.periods.map((row) => ({
          key: hexOf(row.tenantId) + hexOf(row.subscriptionId),
          periodId: Buffer.from(hexOf(row.periodId), 'hex'),
          startedAtMs: row.startedAt.getTime(),
          endsAtMs: row.endsAt?.getTime() ?? Infinity,
          limitBytes: row.limitBytes,
          awaitsUse: row.awaitsUse,
          usedBytes: row.usedBytes,
        })),
        now,
      );
      if (missing.certificate !== null) {
        const row = found.certificates[0];
        stream.certificates.set(
          missing.certificate.toString('hex'),
          row === undefined ? null : certificateOf(row),
        );
      }
    });
    return { absentMeters, absentTenants };
  }

  /** Forgets answers that are too old, so that the next frame asks again. */
  async refresh(stream: Stream): Promise<void> {
    const now = this.clock.now();
    const { from } = stream.subscriptions;
    if (stream.unassigned.size > 0 && now - stream.unassignedAskedAtMs >= PERIOD_RECHECK_MS) {
      for (const s of stream.unassigned) from[s] = Number.NaN;
      stream.unassigned.clear();
    }
    if (now - stream.assignmentsReadAtMs < REFRESH_MS) return;
    stream.assignmentsReadAtMs = now;
    from.fill(Number.NaN, 0, stream.subscriptions.count);
    stream.certificates.clear();
    const [node] = await run(this.pool, findNode, [stream.nodeId, stream.epoch]);
    if (node !== undefined) stream.node = termsOf(node);
  }

  private takeAssignments(
    stream: Stream,
    asked: readonly number[],
    rows: readonly { tenantId: string; subscriptionId: string; assignedAt: Date; endedAt: Date | null }[],
    now: number,
  ): void {
    const { subscriptions } = stream;
    for (const s of asked) {
      subscriptions.from[s] = Infinity;
      subscriptions.until[s] = -Infinity;
    }
    for (const row of rows) {
      const s = subscriptions.find(hexOf(row.tenantId) + hexOf(row.subscriptionId));
      if (s < 0) continue;
      subscriptions.from[s] = row.assignedAt.getTime() - ASSIGNMENT_GRACE_MS;
      subscriptions.until[s] = row.endedAt === null ? Infinity : row.endedAt.getTime() + ASSIGNMENT_GRACE_MS;
    }
    for (const s of asked) if (subscriptions.from[s] === Infinity) stream.unassigned.add(s);
    if (stream.unassigned.size > 0) stream.unassignedAskedAtMs = now;
  }
}

function takeSliceEnds(
  stream: Stream,
  missing: Missing,
  rows: readonly { tenantId: string; digest: Buffer }[],
): void {
  if (missing.tenants.size === 0) return;
  const found = new Map(rows.map((row) => [hexOf(row.tenantId), row.digest]));
  for (const tenant of missing.tenants) {
    if (!stream.tenants.has(tenant) || stream.sliceEnds.has(tenant)) continue;
    stream.sliceEnds.set(tenant, { digest: found.get(tenant) ?? FIRST_SLICE, gap: 0 });
  }
}

function takeMeter(stream: Stream, row: MeterRow): void {
  const high = Number(row.meter >> 32n);
  const low = Number(row.meter & 0xffff_ffffn);
  const { meters, subscriptions } = stream;
  if (meters.find(high, low) >= 0) return;
  const subscriptionId = Buffer.from(hexOf(row.subscriptionId), 'hex');
  const key = hexOf(row.tenantId) + hexOf(row.subscriptionId);
  const known = subscriptions.find(key);
  const index = meters.add({
    high,
    low,
    engine: row.engine,
    subscription: known >= 0 ? known : subscriptions.add(key, subscriptionId),
    epoch: row.epoch,
    boot: row.boot,
    device: row.deviceId === null ? Buffer.alloc(16) : Buffer.from(hexOf(row.deviceId), 'hex'),
  });
  const upHigh = Number(row.cumulativeUp >> 32n);
  const upLow = Number(row.cumulativeUp & 0xffff_ffffn);
  const downHigh = Number(row.cumulativeDown >> 32n);
  const downLow = Number(row.cumulativeDown & 0xffff_ffffn);
  meters.lastUpHigh[index] = meters.keptUpHigh[index] = upHigh;
  meters.lastUpLow[index] = meters.keptUpLow[index] = upLow;
  meters.lastDownHigh[index] = meters.keptDownHigh[index] = downHigh;
  meters.lastDownLow[index] = meters.keptDownLow[index] = downLow;
}

function certificateOf(row: CertificateRow): NodeCertificate {
  return {
    publicKey: new X509Certificate(row.der).publicKey,
    notBeforeMs: row.notBefore.getTime(),
    notAfterMs: row.notAfter.getTime(),
    revokedAtMs: row.revokedAt?.getTime() ?? Infinity,
  };
}
