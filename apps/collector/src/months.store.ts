// What each tenant used in its calendar month, for its pool: one row a tenant and flush, in the flush's transaction, so
// exactly once like the counters. Usage belongs to the month in which it is counted, by the database server's clock and
// the tenant's time zone.
import type { Client } from '@penstock/db/pool';
import { run, statement } from '@penstock/db/statement';
import { BYTES_MAX } from '@penstock/domain/terms';
import type { Periods } from './crossing.js';
import type { Sums } from './subscriptions.js';

/** Above this a sum goes into its bigint before anything is added: one sum is at most 2^52. */
const EXACT_MAX = 2 ** 52;

/** Billable bytes of a flush by tenant. Every number is exact. */
export class TenantSums {
  private readonly whole: bigint[] = [];
  private readonly part: Float64Array;

  constructor(private readonly periods: Periods) {
    this.part = new Float64Array(periods.tenants.length);
  }

  add(sums: Sums): void {
    const { part, whole, periods } = this;
    for (let i = 0; i < sums.count; i++) {
      const tenant = periods.tenantOf[sums.period[i] as number] as number;
      if ((part[tenant] as number) > EXACT_MAX) {
        whole[tenant] = (whole[tenant] ?? 0n) + BigInt(part[tenant] as number);
        part[tenant] = 0;
      }
      part[tenant] = (part[tenant] as number) + (sums.billable[i] as number);
    }
  }

  /** Tenants (hex) with bytes, in key order. */
  rows(): { tenant: string; bytes: bigint }[] {
    return this.periods.tenants
      .map((tenant, i) => ({ tenant, bytes: (this.whole[i] ?? 0n) + BigInt(this.part[i] ?? 0) }))
      .filter((row) => row.bytes > 0n)
      .sort((a, b) => (a.tenant < b.tenant ? -1 : 1));
  }
}

const add = statement<Record<string, never>>(
  'tenant_month.add',
  `INSERT INTO tenant_month AS m (tenant_id, month, billable_bytes)
   SELECT i.t, month_of(statement_timestamp(), z.time_zone), i.b
   FROM unnest($1::uuid[], $2::int8[]) WITH ORDINALITY AS i (t, b, n) JOIN tenant z ON z.tenant_id = i.t
   ORDER BY i.n
   ON CONFLICT (tenant_id, month) DO UPDATE
     SET billable_bytes = m.billable_bytes + least(excluded.billable_bytes, 9223372036854775807 - m.billable_bytes)`,
);

export async function addToMonths(
  client: Client,
  rows: readonly { tenant: string; bytes: bigint }[],
): Promise<void> {
  if (rows.length === 0) return;
  // A sum of many numbers that each fit may not.
  const bytes = rows.map((row) => (row.bytes < BYTES_MAX ? row.bytes : BYTES_MAX).toString());
  await run(client, add, [rows.map((row) => row.tenant), bytes]);
}
