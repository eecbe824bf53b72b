// SQL of what a frame needs and memory does not have, always as sets: tenants, slice ends, meters, assignments, periods,
// certificates; and the ledger above a watermark, page by page.
import { statement } from '@penstock/db/statement';

/** Which of $2 the node serves or served. Answered from assignments, never from the slice. */
export const listServed = statement<{ tenantId: string }>(
  'assignment.served',
  `SELECT t AS "tenantId" FROM unnest($2::uuid[]) AS t
   WHERE EXISTS (SELECT FROM assignment a WHERE a.tenant_id = t AND a.node_id = $1)`,
);

export interface MeterRow {
  tenantId: string;
  subscriptionId: string;
  deviceId: string | null;
  epoch: number;
  meter: bigint;
  engine: number;
  boot: Buffer;
  cumulativeUp: bigint;
  cumulativeDown: bigint;
}

export const listMeters = statement<MeterRow>(
  'meter.list',
  `SELECT tenant_id AS "tenantId", subscription_id AS "subscriptionId", device_id AS "deviceId", epoch, meter, engine, boot,
          cumulative_up AS "cumulativeUp", cumulative_down AS "cumulativeDown"
   FROM meter WHERE node_id = $1 AND meter = ANY ($2::bigint[])`,
);

/** A page of all meters of a node, by number. */
export const pageMeters = statement<MeterRow>(
  'meter.page',
  `SELECT tenant_id AS "tenantId", subscription_id AS "subscriptionId", device_id AS "deviceId", epoch, meter, engine, boot,
          cumulative_up AS "cumulativeUp", cumulative_down AS "cumulativeDown"
   FROM meter WHERE node_id = $1 AND meter > $2 ORDER BY meter LIMIT $3`,
);

export interface AssignmentRow {
  tenantId: string;
  subscriptionId: string;
  assignedAt: Date;
  endedAt: Date | null;
}

export const listAssignments = statement<AssignmentRow>(
  'assignment.list',
  `SELECT a.tenant_id AS "tenantId", a.subscription_id AS "subscriptionId", a.assigned_at AS "assignedAt", a.ended_at AS "endedAt"
   FROM unnest($2::uuid[], $3::uuid[]) AS k (t, s)
   JOIN assignment a ON a.tenant_id = k.t AND a.node_id = $1 AND a.subscription_id = k.s`,
);

export interface PeriodLoadRow {
  tenantId: string;
  subscriptionId: string;
  periodId: string;
  startedAt: Date;
  endsAt: Date | null;
  limitBytes: bigint | null;
  awaitsUse: boolean;
  usedBytes: bigint;
}

/** Periods that ended before $3 can no longer get usage. used = greatest(counter, observed). */
export const listPeriods = statement<PeriodLoadRow>(
  'usage_period.list',
  `SELECT p.tenant_id AS "tenantId", p.subscription_id AS "subscriptionId", p.period_id AS "periodId",
          p.started_at AS "startedAt", p.ends_at AS "endsAt", p.limit_bytes AS "limitBytes",
          p.awaits_use AS "awaitsUse",
          greatest(p.observed_bytes, coalesce(c.billable_bytes, 0)) AS "usedBytes"
   FROM unnest($1::uuid[], $2::uuid[]) AS k (t, s)
   JOIN usage_period p ON p.tenant_id = k.t AND p.subscription_id = k.s AND (p.ends_at IS NULL OR p.ends_at > $3)
   LEFT JOIN usage_counter c ON c.tenant_id = p.tenant_id AND c.subscription_id = p.subscription_id AND c.period_id = p.period_id`,
);

export interface CertificateRow {
  serial: Buffer;
  der: Buffer;
  notBefore: Date;
  notAfter: Date;
  revokedAt: Date | null;
}

export const listCertificates = statement<CertificateRow>(
  'certificate.of_node',
  `SELECT serial, der, not_before AS "notBefore", not_after AS "notAfter", revoked_at AS "revokedAt"
   FROM certificate WHERE node_id = $1 AND serial = ANY ($2::bytea[])`,
);

export interface LedgerFrameRow {
  epoch: number;
  seq: bigint;
  acceptedAt: Date;
  digest: Buffer;
  header: Buffer;
  flags: number;
}

/** Frames above ($2, $3) up to ($4, $5). */
export const pageFrames = statement<LedgerFrameRow>(
  'ledger_frame.page',
  `SELECT epoch, seq, accepted_at AS "acceptedAt", digest, header, flags FROM ledger_frame
   WHERE node_id = $1 AND (epoch, seq) > ($2, $3) AND (epoch, seq) <= ($4, $5)
   ORDER BY epoch, seq LIMIT $6`,
);

export interface LedgerSliceRow {
  tenantId: string;
  epoch: number;
  seq: bigint;
  opened: number;
  rows: number;
  digest: Buffer;
  prevDigest: Buffer;
  payload: Buffer;
}

export const listSlices = statement<LedgerSliceRow>(
  'ledger_slice.list',
  `SELECT tenant_id AS "tenantId", epoch, seq, opened, rows, digest, prev_digest AS "prevDigest", payload FROM ledger_slice
   WHERE node_id = $1 AND (epoch, seq) > ($2, $3) AND (epoch, seq) <= ($4, $5)
   ORDER BY epoch, seq, tenant_id`,
);

export interface QuarantinedRow {
  epoch: number;
  seq: bigint;
  tenantId: string;
  subscriptionId: string;
  engine: number;
}

export const listQuarantined = statement<QuarantinedRow>(
  'usage_quarantine.list',
  `SELECT epoch, seq, tenant_id AS "tenantId", subscription_id AS "subscriptionId", engine FROM usage_quarantine
   WHERE node_id = $1 AND (epoch, seq) > ($2, $3) AND (epoch, seq) <= ($4, $5)`,
);
