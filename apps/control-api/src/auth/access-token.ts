// Access tokens: ES256 JWTs of 15 minutes for one account in one tenant. They say who and where, never what is
// allowed: role and standing come from the database (standing.ts).
import { createHash, createPublicKey, randomUUID, type KeyObject } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { jwtVerify, SignJWT } from 'jose';
import { AppError } from '@penstock/domain/errors';
import { parseId, type AccountId, type TenantId } from '@penstock/domain/ids';
import { Context } from '../context.js';

export const ACCESS_TOKEN_SECONDS = 900;
/** Clocks of two machines of ours may differ by this. */
const LEEWAY_SECONDS = 60;
/** A token of ours is about 500 characters; a header beyond this is not looked at. */
const TOKEN_CHARACTERS_MAX = 4096;
const CACHE_MAX = 5_000;
const AUDIENCE = 'penstock-api';
const TYPE = 'at+jwt';

export interface AccessClaims {
  accountId: AccountId;
  tenantId: TenantId;
  familyId: string;
  /** Seconds since 1970. */
  expiresAt: number;
}

@Injectable()
export class AccessTokens {
  readonly #private: KeyObject;
  readonly #public: KeyObject;
  readonly #keyId: string;
  readonly #issuer: string;
  /** Verified tokens by their whole text, oldest first: two tokens can never be taken for each other. */
  readonly #verified = new Map<string, AccessClaims>();

  constructor(private readonly context: Context) {
    this.#private = context.config.JWT_KEY;
    this.#public = createPublicKey(this.#private);
    this.#issuer = context.config.PUBLIC_URL;
    const spki = this.#public.export({ format: 'der', type: 'spki' });
    this.#keyId = createHash('sha256').update(spki).digest('base64url').slice(0, 16);
  }

  async issue(accountId: AccountId, tenantId: TenantId, familyId: string): Promise<string> {
    const now = Math.floor(this.context.clock.now() / 1000);
    return new SignJWT({ tid: tenantId, sid: familyId })
      .setProtectedHeader({ alg: 'ES256', typ: TYPE, kid: this.#keyId })
      .setIssuer(this.#issuer)
      .setAudience(AUDIENCE)
      .setSubject(accountId)
      .setJti(randomUUID())
      .setIssuedAt(now)
      .setExpirationTime(now + ACCESS_TOKEN_SECONDS)
      .sign(this.#private);
  }

  /** The claims of a token of ours. Throws unauthenticated for anything else, without saying what was wrong. */
  async verify(token: string): Promise<AccessClaims> {
    const nowMs = this.context.clock.now();
    const known = this.#verified.get(token);
    if (known !== undefined) {
      if (known.expiresAt + LEEWAY_SECONDS > nowMs / 1000) return known;
      this.#verified.delete(token);
    }
    const claims = await this.#check(token, nowMs).catch((cause: unknown) => {
      throw new AppError('unauthenticated', 'the access token is not valid', { cause });
    });
    if (this.#verified.size >= CACHE_MAX) {
      const oldest = this.#verified.keys().next();
      if (oldest.done !== true) this.#verified.delete(oldest.value);
    }
    this.#verified.set(token, claims);
    return claims;
  }

  async #check(token: string, nowMs: number): Promise<AccessClaims> {
    if (token.length > TOKEN_CHARACTERS_MAX) throw new RangeError('token too long');
    const { payload, protectedHeader } = await jwtVerify(token, this.#public, {
      algorithms: ['ES256'],
      issuer: this.#issuer,
      audience: AUDIENCE,
      typ: TYPE,
      clockTolerance: LEEWAY_SECONDS,
      currentDate: new Date(nowMs),
      requiredClaims: ['sub', 'exp', 'iat', 'jti', 'tid', 'sid'],
    });
    if (protectedHeader.kid !== this.#keyId) throw new RangeError('unknown key id');
    return {
      accountId: parseId<AccountId>(payload.sub, 'sub'),
      tenantId: parseId<TenantId>(payload['tid'], 'tid'),
      familyId: parseId(payload['sid'], 'sid'),
      expiresAt: Number(payload.exp),
    };
  }
}
