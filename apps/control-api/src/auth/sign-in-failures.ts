// Wrong sign-ins in the platform's audit log. A name that exists and one that does not take the same steps, and what
// was typed as a name is not kept: people type passwords there. Bounded: a network leaves so many rows an hour and no
// more; beyond that the refusals are counted by the metrics only.
import { Injectable } from '@nestjs/common';
import type { AccountId, TenantId } from '@penstock/domain/ids';
import { withTransaction } from '@penstock/db/transaction';
import { appendAudit } from '../audit/audit.store.js';
import { Context } from '../context.js';
import type { Actor, Origin } from '../http/actor.js';
import { LocalBuckets } from '../limits/local-buckets.js';
import { networkOf } from '../limits/networks.js';
import { findHome } from './session.store.js';

const ROWS = { burst: 20, refillMs: 180_000, leaseMax: 1, away: 'full' } as const;

@Injectable()
export class SignInFailures {
  readonly #rows: LocalBuckets;
  /** The platform never changes. */
  #platform: TenantId | undefined;

  constructor(private readonly context: Context) {
    this.#rows = new LocalBuckets(context.clock);
  }

  /** `step`: what was wrong. */
  async record(
    origin: Origin,
    accountId: AccountId | null,
    step: 'password' | 'code' | 'passkey',
  ): Promise<void> {
    if (this.#rows.take(networkOf(origin.ip), ROWS, 1).granted === 0) return;
    const { pool, clock } = this.context;
    this.#platform ??= (await withTransaction(pool, (client) => findHome(client, null))).tenantId;
    const tenantId = this.#platform;
    const at = new Date(clock.now());
    const actor: Actor = {
      ...{ ...origin, tenantId, role: 'auditor', platform: true },
      ...{ accountId: null, familyId: null, keyId: null, scopes: null },
    };
    await withTransaction(
      pool,
      (client) =>
        appendAudit(
          { client, at, actor },
          { action: 'session.refuse', entity: 'account', entityId: accountId, after: { step } },
        ),
      { tenantId },
    );
  }
}
