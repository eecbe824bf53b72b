// The gate before every sign-in: called before anything costly, told afterwards how it ended. Invariants: a name that
// exists and one that does not are treated alike; what one network does never keeps another out for more than 30 s;
// memory is bounded. Called by src/auth for passwords, codes and passkeys.
import { createHmac, hkdfSync } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { Context } from '../context.js';
import type { Origin } from '../http/actor.js';
import { GateMemory } from './gate-memory.js';
import { Limiter } from './limiter.js';
import { networkOf } from './networks.js';

@Injectable()
export class SignInGate {
  /** Names are kept by a keyed hash: Redis holds no mail address, and nobody can try names against it. */
  readonly #nameKey: Buffer;

  constructor(
    context: Context,
    private readonly limiter: Limiter,
    private readonly memory: GateMemory,
  ) {
    this.#nameKey = Buffer.from(hkdfSync('sha256', context.config.DATA_KEY, '', 'sign-in gate', 32));
  }

  /**
   * Before a try with `name` (the address as it was normalised; for a passkey its id). Counts the try as a failure
   * until `succeeded` or `undecided` says otherwise, so that a thousand at once are not a thousand guesses.
   * Throws rate_limited with the time to wait, or unavailable beyond what one process may do without Redis.
   */
  async before(origin: Pick<Origin, 'ip'>, name: string): Promise<void> {
    await this.limiter.takeGuess('sign_in', origin.ip);
    const waitMs = await this.memory.enter(this.#pair(origin, name));
    if (waitMs > 0) {
      throw new AppError('rate_limited', 'too many attempts, try again later', { retryAfterMs: waitMs });
    }
  }

  /** The try was wrong: the next of this pair waits longer, and the name is under more pressure. */
  async failed(origin: Pick<Origin, 'ip'>, name: string): Promise<void> {
    await this.memory.failed(this.#pair(origin, name));
  }

  /** The person is in: this pair begins anew. Other networks keep what they have earned. */
  async succeeded(origin: Pick<Origin, 'ip'>, name: string): Promise<void> {
    await this.memory.succeeded(this.#pair(origin, name));
  }

  /** The try came to no judgement (no room in the queue, a second step is wanted): it does not count. */
  async undecided(origin: Pick<Origin, 'ip'>, name: string): Promise<void> {
    await this.memory.undecided(this.#pair(origin, name));
  }

  #pair(origin: Pick<Origin, 'ip'>, name: string): { name: string; network: string } {
    const hash = createHmac('sha256', this.#nameKey).update(name).digest('base64url').slice(0, 22);
    return { name: hash, network: networkOf(origin.ip) };
  }
}
