// Is this a code of the account's authenticator, or one of its recovery codes? Invariants: a code and every older one
// is accepted once; after the third wrong code in a row none is looked at for a while, growing, whoever asks from
// wherever. Whoever gets here knows the password, so this wait locks nobody out who does not share it; a recovery
// code always works.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import type { AccountId } from '@penstock/domain/ids';
import { withTransaction } from '@penstock/db/transaction';
import { openSecret, type SecretPlace } from '@penstock/service/secret-box';
import { secretHash } from '../auth/refresh-token.js';
import { Context } from '../context.js';
import { lockMs, normalRecoveryCode, stepOf } from './codes.js';
import * as store from './totp.store.js';

export interface SecondProof {
  code?: string | undefined;
  recoveryCode?: string | undefined;
}

/** `none`: the account has no authenticator; `missing`: it has one and nothing was given. */
export type SecondResult = 'none' | 'missing' | 'right' | 'wrong';

export function totpPlace(accountId: AccountId, totpId: string): SecretPlace {
  return { table: 'totp', tenant: '', row: `${accountId} ${totpId}` };
}

@Injectable()
export class SecondFactor {
  constructor(private readonly context: Context) {}

  /** Throws rate_limited while no code is looked at. */
  check(accountId: AccountId, proof: SecondProof): Promise<SecondResult> {
    const { pool, clock, config } = this.context;
    const nowMs = clock.now();
    const at = new Date(nowMs);
    return withTransaction(
      pool,
      async (client): Promise<SecondResult> => {
        const totp = await store.lockTotp(client, accountId, 'active');
        if (totp === null) return 'none';
        if (proof.recoveryCode !== undefined) {
          const hash = secretHash(normalRecoveryCode(proof.recoveryCode));
          return (await store.useRecoveryCode(client, accountId, hash, at)) ? 'right' : 'wrong';
        }
        if (proof.code === undefined) return 'missing';
        if (totp.lockedUntil !== null && totp.lockedUntil > at) {
          throw new AppError('rate_limited', 'too many wrong codes, try again later', {
            retryAfterMs: totp.lockedUntil.getTime() - nowMs,
          });
        }
        const secret = openSecret(config.DATA_KEY, totp.secret, totpPlace(accountId, totp.totpId));
        const step = stepOf(secret, proof.code, nowMs, totp.lastStep);
        if (step !== null) {
          await store.acceptStep(client, accountId, totp.totpId, step);
          return 'right';
        }
        const waitMs = lockMs(totp.failures + 1);
        const until = waitMs === 0 ? null : new Date(nowMs + waitMs);
        await store.countFailure(client, accountId, totp.totpId, until);
        return 'wrong';
      },
      { accountId },
    );
  }
}
