// An authenticator app for one's own account: asked for with password (and code, when one is in force), in force with
// its first code, taken away with password and code. Invariant: until the new one is confirmed the old one stays.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId } from '@penstock/domain/ids';
import { openSecret, sealSecret } from '@penstock/service/secret-box';
import { appendAudit } from '../audit/audit.store.js';
import { personOf } from '../auth/person.js';
import { Proofs } from '../auth/proofs.js';
import { secretHash } from '../auth/refresh-token.js';
import { Standings } from '../auth/standing.store.js';
import { Context } from '../context.js';
import { Database } from '../database.js';
import type { Actor } from '../http/actor.js';
import { requireStillSignedIn } from '../password/still-signed-in.store.js';
import { endOtherSessions } from '../sessions/sessions.store.js';
import { enrolment, newRecoveryCode, newTotpSecret, RECOVERY_CODES, stepOf } from './codes.js';
import { totpPlace } from './second-factor.js';
import type { Proof } from './totp.schema.js';
import * as store from './totp.store.js';

/** What an authenticator app shows above the code. */
const ISSUER = 'Penstock';
const PENDING_MS = 15 * 60_000;
const CONFIRM_TRIES = 3;

@Injectable()
export class TotpService {
  constructor(
    private readonly context: Context,
    private readonly database: Database,
    private readonly proofs: Proofs,
    private readonly standings: Standings,
  ) {}

  state(actor: Actor): Promise<{ enabled: boolean; recoveryCodesLeft: number }> {
    const { accountId } = personOf(actor);
    return this.database.transaction(actor, ({ client }) => store.findTotpState(client, accountId));
  }

  /** A new secret, which waits for its first code. Throws forbidden, totp_required, rate_limited or unavailable. */
  async begin(actor: Actor, proof: Proof): Promise<{ secret: string; uri: string }> {
    const { accountId, email } = await this.proofs.both(actor, proof);
    const secret = newTotpSecret();
    const totpId = newId();
    const sealed = sealSecret(this.context.config.DATA_KEY, secret, totpPlace(accountId, totpId));
    await this.database.transaction(actor, async (acting) => {
      await store.deleteTotp(acting.client, accountId, 'pending');
      await store.insertPendingTotp(acting.client, accountId, totpId, sealed, acting.at);
      await appendAudit(acting, { action: 'totp.begin', entity: 'account', entityId: accountId });
    });
    return enrolment(secret, ISSUER, email);
  }

  /**
   * Puts the waiting secret in force, ends all other sessions and gives ten recovery codes. Throws invalid_input for
   * a wrong code, conflict when nothing waits (any more).
   */
  async confirm(actor: Actor, code: string): Promise<{ recoveryCodes: string[] }> {
    const { accountId, familyId } = personOf(actor);
    const codes = Array.from({ length: RECOVERY_CODES }, newRecoveryCode);
    const done = await this.database.transaction(actor, async (acting) => {
      const { client, at } = acting;
      await requireStillSignedIn(acting);
      const pending = await store.lockTotp(client, accountId, 'pending');
      if (pending === null || at.getTime() - pending.createdAt.getTime() > PENDING_MS) {
        throw new AppError('conflict', 'no authenticator waits for its first code; begin again');
      }
      const place = totpPlace(accountId, pending.totpId);
      const secret = openSecret(this.context.config.DATA_KEY, pending.secret, place);
      const step = stepOf(secret, code, at.getTime(), pending.lastStep);
      if (step === null) {
        const isLast = pending.failures + 1 >= CONFIRM_TRIES;
        if (isLast) await store.deleteTotp(client, accountId, 'pending');
        else await store.countFailure(client, accountId, pending.totpId, null);
        return false;
      }
      await store.deleteTotp(client, accountId, 'active');
      await store.activateTotp(client, accountId, pending.totpId, step);
      await store.replaceRecoveryCodes(client, accountId, codes.map(secretHash));
      const sessionsEnded = await endOtherSessions(client, accountId, familyId, at);
      const after = { sessionsEnded };
      await appendAudit(acting, { action: 'totp.enable', entity: 'account', entityId: accountId, after });
      return true;
    });
    // Thrown after the commit, else the failure would not be counted.
    if (!done)
      throw new AppError('invalid_input', 'code: this is not the code that is shown now', { field: 'code' });
    this.standings.forget();
    return { recoveryCodes: codes };
  }

  /** Throws conflict when no authenticator is in force. */
  async renewCodes(actor: Actor, proof: Proof): Promise<{ recoveryCodes: string[] }> {
    const { accountId } = await this.proofs.both(actor, proof);
    const codes = Array.from({ length: RECOVERY_CODES }, newRecoveryCode);
    await this.database.transaction(actor, async (acting) => {
      await requireStillSignedIn(acting);
      await this.#requireActive(acting.client, accountId);
      await store.replaceRecoveryCodes(acting.client, accountId, codes.map(secretHash));
      await appendAudit(acting, { action: 'recovery_code.renew', entity: 'account', entityId: accountId });
    });
    return { recoveryCodes: codes };
  }

  /** Throws conflict when no authenticator is in force. */
  async remove(actor: Actor, proof: Proof): Promise<void> {
    const { accountId } = await this.proofs.both(actor, proof);
    await this.database.transaction(actor, async (acting) => {
      await this.#requireActive(acting.client, accountId);
      await store.deleteTotp(acting.client, accountId, 'active');
      await store.deleteTotp(acting.client, accountId, 'pending');
      await store.replaceRecoveryCodes(acting.client, accountId, []);
      await appendAudit(acting, { action: 'totp.disable', entity: 'account', entityId: accountId });
    });
  }

  async #requireActive(...[client, accountId]: Parameters<typeof store.findTotpState>): Promise<void> {
    if ((await store.lockTotp(client, accountId, 'active')) === null) {
      throw new AppError('conflict', 'no authenticator is in force');
    }
  }
}
