// The password again, for what a stolen session must not do: change the password, rebind the second factor, add a
// passkey. Guesses here count like guesses at sign-in. Called by src/password, src/totp and src/passkeys.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { withTransaction } from '@penstock/db/transaction';
import { Context } from '../context.js';
import type { Actor } from '../http/actor.js';
import { SignInGate } from '../limits/sign-in-gate.js';
import { SecondFactor, type SecondProof } from '../totp/second-factor.js';
import { Passwords } from './passwords.js';
import { personOf } from './person.js';
import { findAccountWithHash, type AccountRow } from './session.store.js';

@Injectable()
export class Proofs {
  constructor(
    private readonly context: Context,
    private readonly gate: SignInGate,
    private readonly passwords: Passwords,
    private readonly secondFactor: SecondFactor,
  ) {}

  /** The account, when this is its password. Throws forbidden, rate_limited or unavailable. */
  async password(actor: Actor, password: string): Promise<AccountRow> {
    const { accountId } = personOf(actor);
    const account = await withTransaction(this.context.pool, (client) =>
      findAccountWithHash(client, accountId),
    );
    if (account === null) throw new AppError('unauthenticated', 'sign in first');
    await this.gate.before(actor, account.email);
    const { matches } = await this.passwords
      .check(password, account.passwordHash)
      .catch(async (error: unknown) => {
        await this.gate.undecided(actor, account.email);
        throw error;
      });
    if (!matches) {
      await this.gate.failed(actor, account.email);
      throw new AppError('forbidden', 'the password is wrong', { field: 'password' });
    }
    await this.gate.succeeded(actor, account.email);
    return account;
  }

  /**
   * Password, and a code when the account has an authenticator. Throws forbidden for a wrong password or code,
   * totp_required when the code is missing, rate_limited or unavailable.
   */
  async both(actor: Actor, proof: SecondProof & { password: string }): Promise<AccountRow> {
    const account = await this.password(actor, proof.password);
    const found = await this.secondFactor.check(account.accountId, proof);
    if (found === 'missing') throw new AppError('totp_required', 'give a code of your authenticator app');
    if (found === 'wrong') {
      await this.gate.failed(actor, account.email);
      throw new AppError('forbidden', 'the code is wrong or was used', { field: 'code' });
    }
    return account;
  }
}
