// A tenant's own limit of requests a minute, kept for a few seconds: it is asked for with every request.
import { Injectable } from '@nestjs/common';
import { run, statement } from '@penstock/db/statement';
import { Context } from '../context.js';
import { Database } from '../database.js';
import type { Actor } from '../http/actor.js';
import { tenantLimit, type Limit } from './limits.js';

const KEPT_MS = 5_000;
const KEPT_MAX = 10_000;

const selectLimit = statement<{ perMinute: number | null }>(
  'tenant.api_limit',
  `SELECT limit_api_per_minute AS "perMinute" FROM tenant WHERE tenant_id = $1`,
);

@Injectable()
export class TenantLimits {
  readonly #kept = new Map<string, { untilMs: number; limit: Limit | null | Promise<Limit | null> }>();

  constructor(
    private readonly context: Context,
    private readonly database: Database,
  ) {}

  /** The tenant's limit, null for none. Rejects with unavailable when the database is away. */
  of(actor: Actor): Limit | null | Promise<Limit | null> {
    const nowMs = this.context.clock.monotonic();
    const kept = this.#kept.get(actor.tenantId);
    if (kept !== undefined && nowMs < kept.untilMs) return kept.limit;
    this.#kept.delete(actor.tenantId);
    if (this.#kept.size >= KEPT_MAX) {
      const oldest = this.#kept.keys().next();
      if (oldest.done !== true) this.#kept.delete(oldest.value);
    }
    const entry: { untilMs: number; limit: Limit | null | Promise<Limit | null> } = {
      untilMs: nowMs + KEPT_MS,
      limit: null,
    };
    const asked = this.#read(actor).then(
      (limit) => (entry.limit = limit),
      (error: unknown) => {
        this.#kept.delete(actor.tenantId);
        throw error;
      },
    );
    entry.limit = asked;
    this.#kept.set(actor.tenantId, entry);
    return asked;
  }

  async #read(actor: Actor): Promise<Limit | null> {
    const rows = await this.database.transaction(actor, ({ client }) =>
      run(client, selectLimit, [actor.tenantId]),
    );
    const perMinute = rows[0]?.perMinute ?? null;
    return perMinute === null ? null : tenantLimit(perMinute);
  }
}
