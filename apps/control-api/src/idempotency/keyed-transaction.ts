// The one transaction of a request with an Idempotency-Key. Whatever the request does through `Database` happens inside
// it, each step behind a savepoint, and the answer is written into it last: effect and answer are kept together or not
// at all, also when the process or the database dies in between. Opened by idempotency.interceptor.ts. What waits for
// another process waits `apart`, with no transaction open.
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Client } from '@penstock/db/pool';
import { withSavepoint, type TransactionSettings } from '@penstock/db/transaction';

export class KeyedTransaction {
  #last: Promise<unknown> = Promise.resolve();
  #begun = false;

  constructor(readonly client: Client) {}

  /** A step has begun: what it wrote is undone when the transaction is given up. */
  get begun(): boolean {
    return this.#begun;
  }

  /** One step of the request; steps that come at once follow each other, since they share the connection. */
  step<T>(settings: TransactionSettings, work: () => Promise<T>): Promise<T> {
    this.#begun = true;
    // A transaction that is opened inside a step is its own one, as it is without a key.
    const alone = (): Promise<T> => current.run(undefined, work);
    const step = this.#last.then(() => withSavepoint(this.client, alone, settings));
    this.#last = step.catch(() => undefined);
    return step;
  }

  /** Runs `work` as the request of this transaction. */
  run<T>(work: () => Promise<T>): Promise<T> {
    return current.run(this, work);
  }
}

const current = new AsyncLocalStorage<KeyedTransaction | undefined>();

/** Thrown through a handler to the interceptor, which gives the transaction up and goes on with `ask`. */
export class Apart {
  constructor(readonly ask: () => Promise<() => Promise<unknown>>) {}
}

/**
 * First act of a request that needs another process: `ask` runs with no transaction of the request open and no place
 * taken, so that a process that hangs delays nobody else; what it gives runs in the request's transaction, together
 * with the keeping of the answer. What `ask` commits for itself is not undone, and after a crash a repetition asks
 * again: it must be harmless twice.
 */
export async function apart<T>(ask: () => Promise<() => Promise<T>>): Promise<T> {
  const keyed = keyedTransaction();
  if (keyed === undefined) return (await ask())();
  if (keyed.begun) throw new Error('a request waits for another process inside its transaction');
  throw new Apart(ask);
}

/** The keyed transaction of the running request; undefined without a key. */
export function keyedTransaction(): KeyedTransaction | undefined {
  return current.getStore();
}
