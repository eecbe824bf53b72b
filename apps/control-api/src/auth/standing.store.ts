// What whoever shows a credential may be in a tenant, read from the database and kept for at most a second; and
// forgotten at once, in every process, when the database tells of a demotion, a revocation, a disabled account or a
// suspended tenant (triggers of migration 0009). So it takes effect within that second, whatever a token says.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import type { Role } from '@penstock/domain/terms';
import { Reader } from '@penstock/db/read';
import { run, statement } from '@penstock/db/statement';
import { Context } from '../context.js';
import { Notifications } from '../notifications.js';
import type { AccessClaims, MachineClaims } from './access-token.js';
import { readApiKey, readMachineToken, type ApiKeyCredential } from './key-standing.store.js';
import { stronger, type Standing } from './standing.js';

export { stronger } from './standing.js';

const KEPT_MS = 1_000;
const KEPT_MAX = 5_000;

/** What a request shows: a person's access token, a machine's, or an API key. */
export type Credential = AccessClaims | MachineClaims | ApiKeyCredential;

interface StandingRow {
  platform: boolean;
  suspended: boolean;
  confined: boolean;
  role: Role | null;
  platformRole: Role | null;
}

/** No row: no such account, tenant or session, or one of them is closed. */
const selectStanding = statement<StandingRow>(
  'standing.select',
  `SELECT t.kind = 'platform' AS platform, t.state = 'suspended' AS suspended,
          s.only_tenant_id IS NOT NULL AS confined,
          (SELECT m.role FROM member m WHERE m.tenant_id = t.tenant_id AND m.account_id = a.account_id) AS role,
          (SELECT m.role FROM member m JOIN platform p ON p.tenant_id = m.tenant_id
            WHERE m.account_id = a.account_id AND s.only_tenant_id IS NULL) AS "platformRole"
     FROM account a JOIN tenant t ON t.tenant_id = $2
    CROSS JOIN LATERAL (SELECT x.only_tenant_id FROM session x
                         WHERE x.family_id = $3 AND x.account_id = a.account_id AND x.revoked_at IS NULL LIMIT 1) s
    WHERE a.account_id = $1 AND a.disabled_at IS NULL
      AND (s.only_tenant_id IS NULL OR s.only_tenant_id = t.tenant_id)`,
);

interface Kept {
  untilMs: number;
  /** Whose it is, once that is known: what a notification names. */
  of: readonly string[];
  standing: Promise<Standing>;
  /** The same, once it is there. */
  read?: Standing;
}

@Injectable()
export class Standings {
  readonly #kept = new Map<string, Kept>();

  constructor(
    private readonly context: Context,
    notifications: Notifications,
  ) {
    notifications.on('standing', (whose) => this.forget(whose));
  }

  /**
   * Throws unauthenticated when the session, the key or the account is closed, forbidden without a role in the tenant.
   */
  of(credential: Credential): Promise<Standing> {
    const key = keyOf(credential);
    const nowMs = this.context.clock.monotonic();
    const kept = this.#kept.get(key);
    if (kept !== undefined && kept.untilMs > nowMs) return kept.standing;
    this.#kept.delete(key);
    if (this.#kept.size >= KEPT_MAX) {
      const oldest = this.#kept.keys().next();
      if (oldest.done !== true) this.#kept.delete(oldest.value);
    }
    const standing = this.#read(credential);
    // Kept before it is read: a change that is told while we read makes the next request read again.
    const entry: Kept = { untilMs: nowMs + KEPT_MS, of: namesOf(credential), standing };
    this.#kept.set(key, entry);
    standing.then(
      (read) => {
        entry.of = [`a:${read.accountId}`, `t:${read.tenantId}`, `k:${read.key?.keyId ?? ''}`];
        entry.read = read;
      },
      // A failed read is never kept: the next request asks again.
      () => {
        if (this.#kept.get(key) === entry) this.#kept.delete(key);
      },
    );
    return standing;
  }

  /** What `of` would answer at once; undefined when it has to be read. */
  known(credential: Credential): Standing | undefined {
    const kept = this.#kept.get(keyOf(credential));
    return kept !== undefined && kept.untilMs > this.context.clock.monotonic() ? kept.read : undefined;
  }

  /** Forgets what is kept of `whose` (`a:`account, `t:`tenant, `k:`key), or everything. */
  forget(whose = ''): void {
    if (whose === '') return this.#kept.clear();
    for (const [key, { of }] of this.#kept) {
      // An entry that is being read and whose owner is not known yet may be his.
      if (of.length === 0 || of.includes(whose)) this.#kept.delete(key);
    }
  }

  async #read(credential: Credential): Promise<Standing> {
    const { pool, clock } = this.context;
    const at = new Date(clock.now());
    switch (credential.kind) {
      case 'key':
        return readApiKey(pool, credential, at);
      case 'machine':
        return readMachineToken(pool, credential, at);
      case 'session': {
        const { accountId, tenantId, familyId } = credential;
        const reader = new Reader(pool, { tenantId, accountId });
        const rows = await run(reader, selectStanding, [accountId, tenantId, familyId]);
        const row = rows[0];
        if (row === undefined) throw new AppError('unauthenticated', 'this session has ended, sign in again');
        const role = stronger(row.role, row.platformRole);
        if (role === null) throw new AppError('forbidden', 'you have no role in this tenant');
        const { platform, suspended, confined } = row;
        return { accountId, tenantId, familyId, role, platform, suspended, confined, key: null };
      }
    }
  }
}

function keyOf(credential: Credential): string {
  switch (credential.kind) {
    case 'key':
      return `k ${credential.hash.toString('base64')}`;
    case 'machine':
      return `m ${credential.tenantId} ${credential.keyId} ${credential.jtiHash.toString('base64')}`;
    case 'session':
      return `s ${credential.accountId} ${credential.tenantId} ${credential.familyId}`;
  }
}

function namesOf(credential: Credential): string[] {
  if (credential.kind === 'key') return [];
  const names = [`a:${credential.accountId}`, `t:${credential.tenantId}`];
  return credential.kind === 'machine' ? [...names, `k:${credential.keyId}`] : names;
}
