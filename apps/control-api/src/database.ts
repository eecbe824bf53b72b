// The door to the database for everything that acts for somebody: a transaction whose tenant is the actor's, so that
// row security shows that tenant's rows and no others, and which carries the actor into every store.
import { Injectable } from '@nestjs/common';
import type { AccountId } from '@penstock/domain/ids';
import type { Client } from '@penstock/db/pool';
import { Reader } from '@penstock/db/read';
import { withTransaction, type TransactionSettings } from '@penstock/db/transaction';
import { Context } from './context.js';
import type { Actor } from './http/actor.js';
import { keyedTransaction } from './idempotency/keyed-transaction.js';

/** First argument of every store function. */
export interface Acting {
  readonly actor: Actor;
  readonly client: Client;
  /** Time of the request, the same for all that it writes. */
  readonly at: Date;
}

@Injectable()
export class Database {
  constructor(protected readonly context: Context) {}

  /** One transaction: all of `work` or nothing. `work` may run again after a serialisation failure. */
  transaction<T>(actor: Actor, work: (acting: Acting) => Promise<T>): Promise<T> {
    return this.#open(actor, this.settings(actor), work);
  }

  /** The same in the actor's tenant with the eyes of another account: what it is elsewhere decides, too. */
  transactionAbout<T>(actor: Actor, accountId: AccountId, work: (acting: Acting) => Promise<T>): Promise<T> {
    return this.#open(actor, { tenantId: actor.tenantId, accountId }, work);
  }

  #open<T>(actor: Actor, settings: TransactionSettings, work: (acting: Acting) => Promise<T>): Promise<T> {
    const at = new Date(this.context.clock.now());
    // A request with an Idempotency-Key has one transaction for all that it does, and for its answer.
    const keyed = keyedTransaction();
    if (keyed !== undefined) return keyed.step(settings, () => work({ actor, client: keyed.client, at }));
    return withTransaction(this.context.pool, (client) => work({ actor, client, at }), settings);
  }

  /**
   * Reads only: each statement of `work` is a transaction of its own, one message with the tenant set (packages/db
   * read.ts). For what needs one moment over several statements, or locks, use `transaction`.
   */
  read<T>(actor: Actor, work: (acting: Acting) => Promise<T>): Promise<T> {
    const at = new Date(this.context.clock.now());
    const client = new Reader(this.context.pool, this.settings(actor)) as unknown as Client;
    return work({ actor, client, at });
  }

  protected settings(actor: Actor): TransactionSettings {
    return {
      tenantId: actor.tenantId,
      ...(actor.accountId === null ? {} : { accountId: actor.accountId }),
    };
  }
}
