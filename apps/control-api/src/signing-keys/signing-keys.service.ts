// Rotation of the keys that sign our tokens: by command, on schedule, back again, and away with a key that leaked.
// Invariant: a token that was good stays good until it expires, unless its key was retired by hand.
import { Injectable, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { withTransaction } from '@penstock/db/transaction';
import { appendAudit } from '../audit/audit.store.js';
import { Context } from '../context.js';
import { Database, type Acting } from '../database.js';
import type { Actor } from '../http/actor.js';
import { findPlatform } from '../setup/setup.store.js';
import { productActor } from '../setup/setup.service.js';
import { KeyRing } from './key-ring.js';
import * as rotation from './rotation.js';
import * as store from './signing-keys.store.js';

/** How often each process looks whether the schedule wants something; the first that does it does it for all. */
const SCHEDULE_MS = 60_000;
const LISTED_MAX = 200;

export type ListedKey = Awaited<ReturnType<typeof store.listKeys>>[number];

@Injectable()
export class SigningKeys implements OnApplicationBootstrap, OnModuleDestroy {
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly context: Context,
    private readonly database: Database,
    private readonly ring: KeyRing,
  ) {}

  onApplicationBootstrap(): void {
    this.#timer = setInterval(() => {
      this.keepSchedule().catch((error: unknown) =>
        this.context.log.warn({ error }, 'signing keys: the schedule waits'),
      );
    }, SCHEDULE_MS);
    this.#timer.unref();
  }

  onModuleDestroy(): void {
    clearInterval(this.#timer);
  }

  /** Newest first. */
  async list(actor: Actor): Promise<{ items: ListedKey[] }> {
    const items = await this.database.transaction(actor, ({ client }) => store.listKeys(client, LISTED_MAX));
    return { items };
  }

  /**
   * `next` signs from now on. Throws pending while it is not published long enough, unless `immediate`; and
   * limit_reached when too many keys still verify.
   */
  async rotate(actor: Actor, immediate: boolean): Promise<ListedKey> {
    return this.#change(actor, async (acting, keys) => {
      const next = keys.find((key) => key.state === 'next');
      if (next === undefined) throw new AppError('internal', 'there is no next signing key');
      const waitMs = rotation.publishedInMs(next, acting.at);
      if (waitMs > 0 && !immediate) {
        throw new AppError('pending', 'the next key was published less than ten minutes ago', {
          retryAfterMs: waitMs,
        });
      }
      if (keys.filter((key) => key.state === 'previous').length >= rotation.PREVIOUS_MAX) {
        throw new AppError('conflict', 'too many keys still verify; wait or retire one');
      }
      await this.#advance(acting, next.kid);
      return { kid: next.kid, action: 'signing_key.rotate' };
    });
  }

  /** The key that signed before signs again; the current one goes on verifying. */
  async rollback(actor: Actor): Promise<ListedKey> {
    return this.#change(actor, async ({ client, at }, keys) => {
      const last = rotation.lastSigner(keys);
      if (last === null) throw new AppError('failed_precondition', 'there is no previous key');
      await store.demoteCurrentKey(client, at);
      await store.activateKey(client, last.kid, at);
      return { kid: last.kid, action: 'signing_key.rollback' };
    });
  }

  /** Its tokens are refused from now on, everywhere within a second. The key that signs must be rotated first. */
  async retire(actor: Actor, kid: string): Promise<ListedKey> {
    return this.#change(actor, async ({ client, at }, keys) => {
      const key = keys.find((one) => one.kid === kid);
      if (key === undefined) throw new AppError('not_found', 'there is no such living key');
      if (key.state === 'current') throw new AppError('failed_precondition', 'this key signs; rotate first');
      await store.retireKeys(client, [kid], at);
      if (key.state === 'next') {
        await store.insertSigningKey(client, { ...(await this.ring.make()), state: 'next' }, at);
      }
      return { kid, action: 'signing_key.retire' };
    });
  }

  /** Rotates a key that is thirty days old and retires those whose last token has expired. */
  async keepSchedule(): Promise<void> {
    await this.ring.get();
    const platform = await withTransaction(this.context.pool, (client) => findPlatform(client));
    if (platform === null) return;
    await this.database.transaction(productActor(platform), async (acting) => {
      const { client, at } = acting;
      await store.lockSigningKeys(client);
      const keys = await store.listLivingKeys(client);
      const gone = rotation.outlived(keys, at);
      if (gone.length > 0) await store.retireKeys(client, gone, at);
      const next = keys.find((key) => key.state === 'next');
      if (next === undefined || !rotation.isRotationDue(keys, at)) return;
      await this.#advance(acting, next.kid);
      await appendAudit(acting, {
        ...{ action: 'signing_key.rotate', entity: 'signing_key', entityId: null },
        after: { kid: next.kid, scheduled: true },
      });
    });
  }

  async #advance({ client, at }: Acting, kid: string): Promise<void> {
    await store.demoteCurrentKey(client, at);
    await store.activateKey(client, kid, at);
    await store.insertSigningKey(client, { ...(await this.ring.make()), state: 'next' }, at);
  }

  async #change(
    actor: Actor,
    work: (
      acting: Acting,
      keys: store.SigningKeyRow[],
    ) => Promise<{
      kid: string;
      action: 'signing_key.rotate' | 'signing_key.rollback' | 'signing_key.retire';
    }>,
  ): Promise<ListedKey> {
    await this.ring.get();
    const changed = await this.database.transaction(actor, async (acting) => {
      await store.lockSigningKeys(acting.client);
      const { kid, action } = await work(acting, await store.listLivingKeys(acting.client));
      const now = (await store.listKeys(acting.client, LISTED_MAX)).find((key) => key.kid === kid);
      if (now === undefined) throw new AppError('internal', 'a signing key vanished while it was changed');
      await appendAudit(acting, { action, entity: 'signing_key', entityId: null, after: { kid } });
      return now;
    });
    this.ring.forget();
    return changed;
  }
}
