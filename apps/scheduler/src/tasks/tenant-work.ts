// Work that a task does tenant by tenant: what fails for one tenant is told and counted, and the others are served all
// the same. Only a database that is away for everybody ends the pass. Used by usage-rollup and statement-close.
import { isConnectionError } from '@penstock/db/errors';
import type { Logger } from '@penstock/service/logger';
import type { SchedulerMetrics, TenantTaskName } from '../metrics.js';

/** So many tenants one after the other without a connection: it is not the tenants. */
export const LOST_MAX = 3;

export interface TenantWorkDeps {
  log: Logger;
  metrics: SchedulerMetrics;
}

export class TenantWork {
  /** Whose work failed; nothing more of them is tried in this pass. */
  readonly failed = new Set<string>();
  private lost = 0;

  constructor(
    private readonly deps: TenantWorkDeps,
    private readonly task: TenantTaskName,
  ) {}

  /** Does a piece of a tenant's work; false when it failed now or before. Throws when the database is away. */
  async run(tenantId: string, work: () => Promise<void>): Promise<boolean> {
    if (this.failed.has(tenantId)) return false;
    try {
      await work();
      this.lost = 0;
      return true;
    } catch (error) {
      this.lost = isConnectionError((error as { cause?: unknown }).cause ?? error) ? this.lost + 1 : 0;
      if (this.lost >= LOST_MAX) throw error;
      this.failed.add(tenantId);
      this.deps.metrics.tenantFailures.inc({ task: this.task });
      this.deps.log.error({ tenantId, task: this.task, error }, 'a task failed for one tenant, others go on');
      return false;
    }
  }
}
