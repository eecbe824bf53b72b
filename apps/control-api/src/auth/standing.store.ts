// What an account may be in a tenant, read from the database and kept for at most a second: a demotion, a disabled
// account or a revoked session takes effect within that second, whatever an access token says.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { roles, type Role } from '@penstock/domain/terms';
import { withTransaction } from '@penstock/db/transaction';
import { run, statement } from '@penstock/db/statement';
import { Context } from '../context.js';
import type { AccessClaims } from './access-token.js';

const KEPT_MS = 1_000;
const KEPT_MAX = 5_000;

export interface Standing {
  role: Role;
  platform: boolean;
}

interface StandingRow {
  platform: boolean;
  role: Role | null;
  platformRole: Role | null;
}

/** No row: no such account, tenant or session, or one of them is closed. */
const selectStanding = statement<StandingRow>(
  'standing.select',
  `SELECT t.kind = 'platform' AS platform,
          (SELECT m.role FROM member m WHERE m.tenant_id = t.tenant_id AND m.account_id = a.account_id) AS role,
          (SELECT m.role FROM member m JOIN platform p ON p.tenant_id = m.tenant_id
            WHERE m.account_id = a.account_id) AS "platformRole"
     FROM account a JOIN tenant t ON t.tenant_id = $2
    WHERE a.account_id = $1 AND a.disabled_at IS NULL
      AND EXISTS (SELECT FROM session s WHERE s.family_id = $3 AND s.account_id = a.account_id
                    AND s.revoked_at IS NULL)`,
);

/** The stronger of two roles; a place in the platform tenant reaches every tenant. */
export function stronger(own: Role | null, platform: Role | null): Role | null {
  return roles.find((role) => role === own || role === platform) ?? null;
}

@Injectable()
export class Standings {
  readonly #kept = new Map<string, { untilMs: number; standing: Promise<Standing> }>();

  constructor(private readonly context: Context) {}

  /** Throws unauthenticated when the session or the account is closed, forbidden without a role in the tenant. */
  of(claims: AccessClaims): Promise<Standing> {
    const key = `${claims.accountId} ${claims.tenantId} ${claims.familyId}`;
    const nowMs = this.context.clock.monotonic();
    const kept = this.#kept.get(key);
    if (kept !== undefined && kept.untilMs > nowMs) return kept.standing;
    this.#kept.delete(key);
    if (this.#kept.size >= KEPT_MAX) {
      const oldest = this.#kept.keys().next();
      if (oldest.done !== true) this.#kept.delete(oldest.value);
    }
    const standing = this.#read(claims);
    this.#kept.set(key, { untilMs: nowMs + KEPT_MS, standing });
    // A failed read is never kept: the next request asks again.
    standing.catch(() => this.#kept.delete(key));
    return standing;
  }

  /** Forgets everything: something was revoked in this process. */
  forget(): void {
    this.#kept.clear();
  }

  async #read(claims: AccessClaims): Promise<Standing> {
    const rows = await withTransaction(
      this.context.pool,
      (client) => run(client, selectStanding, [claims.accountId, claims.tenantId, claims.familyId]),
      { tenantId: claims.tenantId, accountId: claims.accountId },
    );
    const row = rows[0];
    if (row === undefined) throw new AppError('unauthenticated', 'this session has ended, sign in again');
    const role = stronger(row.role, row.platformRole);
    if (role === null) throw new AppError('forbidden', 'you have no role in this tenant');
    return { role, platform: row.platform };
  }
}
