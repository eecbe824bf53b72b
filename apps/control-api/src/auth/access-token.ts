// Our signed tokens (ES256). Access tokens (`at+jwt`): 15 minutes for one account in one tenant; machine tokens
// (`mt+jwt`): up to 30 days, narrow. They say who and where, never what is allowed: role and standing come from the
// database (standing.store.ts). The key comes from our own ring by its id; nothing in a header is followed.
import { createHash, randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { decodeProtectedHeader, jwtVerify, SignJWT } from 'jose';
import { AppError } from '@penstock/domain/errors';
import { parseId, type AccountId, type KeyId, type TenantId } from '@penstock/domain/ids';
import { Context } from '../context.js';
import { KeyRing } from '../signing-keys/key-ring.js';
import { isCanonical, withLowSignature } from './token-text.js';

export const ACCESS_TOKEN_SECONDS = 900;
/** Clocks of two machines of ours may differ by this. */
const LEEWAY_SECONDS = 60;
/** A token of ours is about 500 characters; a header beyond this is not looked at. */
const TOKEN_CHARACTERS_MAX = 4096;
const CACHE_MAX = 5_000;
/** Who our own tokens are for: this API. A machine token for another audience is not for us. */
export const AUDIENCE = 'penstock-api';
const KEY_ID = /^[A-Za-z0-9_-]{43}$/;
const HEADER_NAMES = new Set(['alg', 'typ', 'kid']);
const types = ['at+jwt', 'mt+jwt'] as const;

interface Claims {
  /** The key that signed. */
  kid: string;
  accountId: AccountId;
  tenantId: TenantId;
  /** Seconds since 1970. */
  expiresAt: number;
}

/** A person with a session. */
export interface AccessClaims extends Claims {
  kind: 'session';
  familyId: string;
}

/** A machine, by a token that a person made. What it may do stands in its row. */
export interface MachineClaims extends Claims {
  kind: 'machine';
  keyId: KeyId;
  jtiHash: Buffer;
}

export interface NewMachineToken {
  keyId: KeyId;
  jti: string;
  accountId: AccountId;
  tenantId: TenantId;
  audience: string;
  scopes: readonly string[];
  pathPrefix: string;
  at: Date;
  expiresAt: Date;
}

@Injectable()
export class AccessTokens {
  readonly #issuer: string;
  /** Verified tokens by their whole text, oldest first: two tokens can never be taken for each other. */
  readonly #verified = new Map<string, AccessClaims | MachineClaims>();

  constructor(
    private readonly context: Context,
    private readonly ring: KeyRing,
  ) {
    this.#issuer = context.config.PUBLIC_URL;
  }

  async issue(accountId: AccountId, tenantId: TenantId, familyId: string): Promise<string> {
    const now = Math.floor(this.context.clock.now() / 1000);
    const { kid, privateKey } = (await this.ring.get()).signer;
    const text = await new SignJWT({ tid: tenantId, sid: familyId })
      .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', kid })
      .setIssuer(this.#issuer)
      .setAudience(AUDIENCE)
      .setSubject(accountId)
      .setJti(randomUUID())
      .setIssuedAt(now)
      .setExpirationTime(now + ACCESS_TOKEN_SECONDS)
      .sign(privateKey);
    return withLowSignature(text);
  }

  /** The text of a machine token, and the id of the key that has to verify until it expires. */
  async issueForMachine(token: NewMachineToken): Promise<{ text: string; kid: string }> {
    const { kid, privateKey } = (await this.ring.get()).signer;
    const { scopes, pathPrefix, keyId, tenantId } = token;
    const text = await new SignJWT({ tid: tenantId, key: keyId, scope: scopes.join(' '), path: pathPrefix })
      .setProtectedHeader({ alg: 'ES256', typ: 'mt+jwt', kid })
      .setIssuer(this.#issuer)
      .setAudience(token.audience)
      .setSubject(token.accountId)
      .setJti(token.jti)
      .setIssuedAt(Math.floor(token.at.getTime() / 1000))
      .setExpirationTime(Math.floor(token.expiresAt.getTime() / 1000))
      .sign(privateKey);
    return { text: withLowSignature(text), kid };
  }

  /**
   * The claims of a token of ours that is for `audience`. Throws unauthenticated for anything else, without saying
   * what was wrong.
   */
  async verify(token: string): Promise<AccessClaims | MachineClaims> {
    const nowMs = this.context.clock.now();
    const known = this.#verified.get(token);
    if (known !== undefined) {
      const ring = this.ring.get();
      const { verifiers } = ring instanceof Promise ? await ring : ring;
      if (known.expiresAt + LEEWAY_SECONDS > nowMs / 1000 && verifiers.has(known.kid)) return known;
      this.#verified.delete(token);
    }
    const claims = await this.check(token, nowMs, AUDIENCE);
    if (this.#verified.size >= CACHE_MAX) {
      const oldest = this.#verified.keys().next();
      if (oldest.done !== true) this.#verified.delete(oldest.value);
    }
    this.#verified.set(token, claims);
    return claims;
  }

  /** The claims of a token that `verify` knows already and would answer at once; else undefined. */
  known(token: string): AccessClaims | MachineClaims | undefined {
    const known = this.#verified.get(token);
    if (known === undefined || known.expiresAt + LEEWAY_SECONDS <= this.context.clock.now() / 1000)
      return undefined;
    return this.ring.known()?.verifiers.has(known.kid) === true ? known : undefined;
  }

  /** verify without the cache and for any audience (null). */
  async check(token: string, nowMs: number, audience: string | null): Promise<AccessClaims | MachineClaims> {
    try {
      return await this.#check(token, nowMs, audience);
    } catch (cause) {
      // A database that is away is not a forged token.
      if (cause instanceof AppError && (cause.code === 'unavailable' || cause.code === 'internal'))
        throw cause;
      throw new AppError('unauthenticated', 'the access token is not valid', { cause });
    }
  }

  async #check(token: string, nowMs: number, audience: string | null): Promise<AccessClaims | MachineClaims> {
    if (token.length > TOKEN_CHARACTERS_MAX) throw new RangeError('token too long');
    if (!isCanonical(token)) throw new RangeError('not as we write it');
    const { kid = '', typ, ...rest } = decodeProtectedHeader(token);
    if (Object.keys(rest).some((name) => !HEADER_NAMES.has(name))) throw new RangeError('unknown header');
    const type = types.find((one) => one === typ);
    if (type === undefined || !KEY_ID.test(kid)) throw new RangeError('unknown type or key id');
    const key = await this.ring.verifier(kid);
    if (key === undefined) throw new RangeError('unknown key id');
    const own = type === 'at+jwt' ? ['sid'] : ['key', 'scope', 'path'];
    const { payload } = await jwtVerify(token, key, {
      algorithms: ['ES256'],
      issuer: this.#issuer,
      ...(audience === null ? {} : { audience }),
      typ: type,
      clockTolerance: LEEWAY_SECONDS,
      currentDate: new Date(nowMs),
      requiredClaims: ['sub', 'aud', 'exp', 'iat', 'jti', 'tid', ...own],
    });
    const claims = {
      kid,
      accountId: parseId<AccountId>(payload.sub, 'sub'),
      tenantId: parseId<TenantId>(payload['tid'], 'tid'),
      expiresAt: Number(payload.exp),
    };
    if (type === 'at+jwt') return { ...claims, kind: 'session', familyId: parseId(payload['sid'], 'sid') };
    return {
      ...{ ...claims, kind: 'machine', keyId: parseId<KeyId>(payload['key'], 'key') },
      jtiHash: createHash('sha256').update(String(payload.jti)).digest(),
    };
  }
}
