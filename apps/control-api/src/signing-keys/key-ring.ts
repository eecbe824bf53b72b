// The signing keys as this process knows them: which one signs, which ones verify, what the JWKS says. Read again when
// the database tells of a change, when a token names an unknown key, and after a second in any case; so every process
// sees a rotation or a retired key within that second. The environment's JWT_KEY seeds the very first.
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { calculateJwkThumbprint, type JWK } from 'jose';
import { withTransaction } from '@penstock/db/transaction';
import type { Client } from '@penstock/db/pool';
import { AppError } from '@penstock/domain/errors';
import { openSecret, sealSecret } from '@penstock/service/secret-box';
import { Context } from '../context.js';
import { Notifications } from '../notifications.js';
import * as store from './signing-keys.store.js';

const KEPT_MS = 1_000;
/** Tokens with unknown key ids make us look again, but not more often than this. */
const UNKNOWN_MS = 250;

export interface SigningKey {
  kid: string;
  privateKey: KeyObject;
}

export interface Ring {
  signer: SigningKey;
  /** Keys that verify, by key id. */
  verifiers: ReadonlyMap<string, KeyObject>;
  jwks: { keys: JWK[] };
}

@Injectable()
export class KeyRing {
  #ring: Ring | undefined;
  #readAtMs = Number.NEGATIVE_INFINITY;
  #reading: Promise<Ring> | undefined;
  #generation = 0;

  constructor(
    private readonly context: Context,
    notifications: Notifications,
  ) {
    notifications.on('signing_key', () => this.forget());
  }

  /** What is read at most a second ago; a promise only when it has to be read. */
  get(): Ring | Promise<Ring> {
    return this.known() ?? this.#read();
  }

  /** What is read at most a second ago; undefined when it has to be read. */
  known(): Ring | undefined {
    return this.context.clock.monotonic() - this.#readAtMs < KEPT_MS ? this.#ring : undefined;
  }

  /** The public key of `kid`, looked up once more when it is unknown: it may be seconds old. */
  async verifier(kid: string): Promise<KeyObject | undefined> {
    const known = (await this.get()).verifiers.get(kid);
    if (known !== undefined || this.context.clock.monotonic() - this.#readAtMs < UNKNOWN_MS) return known;
    return (await this.#read()).verifiers.get(kid);
  }

  /** The next use reads again. */
  forget(): void {
    this.#generation++;
    this.#readAtMs = Number.NEGATIVE_INFINITY;
    this.#reading = undefined;
  }

  /** A new key pair, sealed for the database. `from`: the private key of an installation that brings one. */
  async make(from?: KeyObject): Promise<{ kid: string; publicJwk: JWK; privateSealed: Buffer }> {
    const privateKey = from ?? generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    const bare = createPublicKey(privateKey).export({ format: 'jwk' }) as JWK;
    const kid = await calculateJwkThumbprint(bare, 'sha256');
    const plain = privateKey.export({ format: 'der', type: 'pkcs8' });
    const privateSealed = sealSecret(this.context.config.DATA_KEY, plain, placeOf(kid));
    plain.fill(0);
    return { kid, publicJwk: { ...bare, kid, alg: 'ES256', use: 'sig' }, privateSealed };
  }

  #read(): Promise<Ring> {
    if (this.#reading !== undefined) return this.#reading;
    const generation = this.#generation;
    const readAtMs = this.context.clock.monotonic();
    const reading = withTransaction(this.context.pool, (client) => this.#load(client))
      .then((ring) => {
        if (generation === this.#generation) {
          this.#ring = ring;
          this.#readAtMs = readAtMs;
        }
        return ring;
      })
      .finally(() => {
        if (this.#reading === reading) this.#reading = undefined;
      });
    this.#reading = reading;
    return reading;
  }

  async #load(client: Client): Promise<Ring> {
    let rows = await store.listLivingKeys(client);
    if (!rows.some((row) => row.state === 'current')) {
      await store.lockSigningKeys(client);
      rows = await store.listLivingKeys(client);
      if (!rows.some((row) => row.state === 'current')) {
        const at = new Date(this.context.clock.now());
        const first = await this.make(this.context.config.JWT_KEY);
        await store.insertSigningKey(client, { ...first, state: 'current' }, at);
        await store.insertSigningKey(client, { ...(await this.make()), state: 'next' }, at);
        rows = await store.listLivingKeys(client);
      }
    }
    const current = rows.find((row) => row.state === 'current');
    const sealed = current?.privateSealed ?? null;
    if (current === undefined || sealed === null) throw new AppError('internal', 'there is no signing key');
    return {
      signer: { kid: current.kid, privateKey: this.#open(current.kid, sealed) },
      verifiers: new Map(
        rows.map((row) => [row.kid, createPublicKey({ key: row.publicJwk as object, format: 'jwk' })]),
      ),
      jwks: { keys: rows.map((row) => row.publicJwk) },
    };
  }

  #open(kid: string, sealed: Buffer): KeyObject {
    const plain = openSecret(this.context.config.DATA_KEY, sealed, placeOf(kid));
    try {
      return createPrivateKey({ key: plain, format: 'der', type: 'pkcs8' });
    } finally {
      plain.fill(0);
    }
  }
}

function placeOf(kid: string): { table: string; tenant: string; row: string } {
  return { table: 'signing_key', tenant: '', row: kid };
}
