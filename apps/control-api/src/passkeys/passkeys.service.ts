// Passkeys (WebAuthn): added to one's own account with password and code, good for signing in by themselves, since the
// device asks for finger, face or PIN. Invariants: a challenge is answered once, within five minutes, for what and
// whom it was made; attestations are not asked for, and certificates in them are never looked at.
import { Injectable } from '@nestjs/common';
import {
  generateAuthenticationOptions,
  generateRegistrationOptions,
  verifyAuthenticationResponse,
  verifyRegistrationResponse,
} from '@simplewebauthn/server';
import { decodeAttestationObject } from '@simplewebauthn/server/helpers';
import { AppError } from '@penstock/domain/errors';
import { idBytes, newId } from '@penstock/domain/ids';
import { withTransaction } from '@penstock/db/transaction';
import { appendAudit } from '../audit/audit.store.js';
import { AuthService, type Tokens } from '../auth/auth.service.js';
import { personOf } from '../auth/person.js';
import { Proofs } from '../auth/proofs.js';
import { secretHash } from '../auth/refresh-token.js';
import { SignInFailures } from '../auth/sign-in-failures.js';
import { Context } from '../context.js';
import { Database } from '../database.js';
import type { Actor, Origin } from '../http/actor.js';
import { SignInGate } from '../limits/sign-in-gate.js';
import { requireStillSignedIn } from '../password/still-signed-in.store.js';
import type { Proof } from '../totp/totp.schema.js';
import { CHALLENGE_MS, challengeEnd, newChallenge, type Purpose } from './challenge.js';
import type { Asserted, Created, NewPasskey, SignIn } from './passkeys.schema.js';
import * as store from './passkeys.store.js';

const PASSKEYS_MAX = 20;
const SITE_NAME = 'Penstock';
/** EdDSA, ES256, RS256: what devices have (COSE numbers). */
const ALGORITHMS = [-8, -7, -257];

@Injectable()
export class PasskeysService {
  readonly #origin: string;
  readonly #site: string;

  constructor(
    private readonly context: Context,
    private readonly database: Database,
    private readonly auth: AuthService,
    private readonly proofs: Proofs,
    private readonly gate: SignInGate,
    private readonly failures: SignInFailures,
  ) {
    const { origin, hostname } = new URL(context.config.PUBLIC_URL);
    this.#origin = origin;
    this.#site = hostname;
  }

  /** What a browser makes a passkey from. Throws forbidden, totp_required, limit_reached, rate_limited, unavailable. */
  async addOptions(actor: Actor, proof: Proof): Promise<{ challenge: string }> {
    const { accountId, familyId } = personOf(actor);
    const account = await this.proofs.both(actor, proof);
    const known = await this.database.transaction(actor, ({ client }) =>
      store.listPasskeys(client, accountId),
    );
    requireRoom(known.length);
    return generateRegistrationOptions({
      ...{ rpName: SITE_NAME, rpID: this.#site, userName: account.email },
      userDisplayName: account.displayName,
      userID: new Uint8Array(idBytes(accountId)),
      challenge: this.#challenge(`add ${familyId}`),
      timeout: CHALLENGE_MS,
      attestationType: 'none',
      supportedAlgorithmIDs: ALGORITHMS,
      excludeCredentials: known.map(({ credentialId }) => ({ id: credentialId.toString('base64url') })),
      authenticatorSelection: { residentKey: 'required', userVerification: 'required' },
    });
  }

  /** Throws invalid_input for what is no answer to a challenge of this session, unauthenticated, conflict, limit_reached. */
  async add(actor: Actor, { name, credential }: NewPasskey): Promise<store.Passkey> {
    const { accountId, familyId } = personOf(actor);
    const found = await this.#verifyNew(credential, `add ${familyId}`);
    return this.database.transaction(actor, async (acting) => {
      const { client } = acting;
      await requireStillSignedIn(acting);
      if (!(await store.useChallenge(client, found.challengeHash, found.expiresAt))) throw unfit();
      requireRoom((await store.listPasskeys(client, accountId)).length);
      const { id, publicKey, counter, transports = [] } = found.credential;
      const passkey = await store.insertPasskey(acting, accountId, {
        ...{ passkeyId: newId(), name, transports, synced: found.synced },
        ...{
          credentialId: Buffer.from(id, 'base64url'),
          publicKey: Buffer.from(publicKey),
          signCount: counter,
        },
      });
      const after = { passkeyId: passkey.passkeyId, name };
      await appendAudit(acting, { action: 'passkey.create', entity: 'account', entityId: accountId, after });
      return passkey;
    });
  }

  async list(actor: Actor): Promise<{ items: store.Passkey[] }> {
    const { accountId } = personOf(actor);
    const rows = await this.database.transaction(actor, ({ client }) =>
      store.listPasskeys(client, accountId),
    );
    const items = rows.map(({ passkeyId, name, synced, createdAt, lastUsedAt }) => ({
      ...{ passkeyId, name, synced, createdAt, lastUsedAt },
    }));
    return { items };
  }

  /** Throws not_found. */
  async remove(actor: Actor, passkeyId: string): Promise<void> {
    const { accountId } = personOf(actor);
    await this.database.transaction(actor, async (acting) => {
      const removed = await store.deletePasskey(acting.client, accountId, passkeyId);
      if (removed === null) throw new AppError('not_found', 'there is no such passkey');
      const before = { passkeyId, ...removed };
      await appendAudit(acting, { action: 'passkey.delete', entity: 'account', entityId: accountId, before });
    });
  }

  /** The same for everybody: the device knows whose passkeys it holds. */
  signInOptions(): Promise<{ challenge: string }> {
    return generateAuthenticationOptions({
      ...{ rpID: this.#site, challenge: this.#challenge('sign-in'), timeout: CHALLENGE_MS },
      userVerification: 'required',
    });
  }

  /** Throws unauthenticated alike for an unknown passkey and a wrong answer; rate_limited, forbidden, invalid_input. */
  async signIn({ credential, tenantId }: SignIn, origin: Origin): Promise<Tokens> {
    const name = `passkey ${credential.id}`;
    await this.gate.before(origin, name);
    const passkey = await this.#verify(credential);
    if (passkey === null) {
      await this.gate.failed(origin, name);
      await this.failures.record(origin, null, 'passkey');
      throw new AppError('unauthenticated', 'this passkey is not known here');
    }
    await this.gate.succeeded(origin, name);
    const place = await this.auth.chooseTenant(passkey.accountId, tenantId);
    return this.auth.open(passkey.accountId, place, origin, {
      // One that was removed meanwhile opens nothing.
      still: async (client) =>
        (await store.listPasskeys(client, passkey.accountId)).some(
          (one) => one.passkeyId === passkey.passkeyId,
        ),
    });
  }

  #challenge(purpose: Purpose): Uint8Array<ArrayBuffer> {
    return new Uint8Array(newChallenge(this.context.config.DATA_KEY, purpose, this.context.clock.now()));
  }

  /** Checks the challenge inside an answer; what it was and when it ends are kept for its single use. */
  #expect(purpose: Purpose): {
    check: (challenge: string) => boolean;
    used: () => { hash: Buffer; end: Date };
  } {
    const { config, clock } = this.context;
    let seen: { hash: Buffer; end: Date } | undefined;
    return {
      check: (challenge) => {
        const end = challengeEnd(config.DATA_KEY, challenge, purpose, clock.now());
        if (end !== null) seen = { hash: secretHash(Buffer.from(challenge, 'base64url')), end };
        return end !== null;
      },
      used: () => {
        if (seen === undefined) throw unfit();
        return seen;
      },
    };
  }

  async #verifyNew(credential: Created, purpose: Purpose): Promise<NewCredential> {
    const expected = this.#expect(purpose);
    const { registrationInfo: info } = await Promise.resolve()
      .then(() => {
        requireNoCertificates(credential);
        const { id, rawId, type, clientExtensionResults, response } = credential;
        const { clientDataJSON, attestationObject, transports = [] } = response;
        const given = { clientDataJSON, attestationObject, transports };
        return verifyRegistrationResponse({
          response: { id, rawId, type, clientExtensionResults, response: given },
          expectedChallenge: expected.check,
          expectedOrigin: this.#origin,
          expectedRPID: this.#site,
          requireUserVerification: true,
          supportedAlgorithmIDs: ALGORITHMS,
        });
      })
      .catch((cause: unknown) => {
        throw unfit(cause);
      });
    if (info === undefined) throw unfit();
    const { hash, end } = expected.used();
    return {
      credential: info.credential,
      ...{ synced: info.credentialDeviceType === 'multiDevice', challengeHash: hash, expiresAt: end },
    };
  }

  /** The passkey whose answer this is; its use and the challenge's are written. null for anything else. */
  async #verify(credential: Asserted): Promise<store.StoredPasskey | null> {
    const { pool, clock } = this.context;
    const credentialId = Buffer.from(credential.id, 'base64url');
    const passkey = await withTransaction(pool, (client) => store.findByCredential(client, credentialId));
    if (passkey === null || !belongsTo(credential, passkey)) return null;
    const expected = this.#expect('sign-in');
    const { rawId, type, clientExtensionResults, response } = credential;
    const { clientDataJSON, authenticatorData, signature } = response;
    const given = { clientDataJSON, authenticatorData, signature };
    const verified = await verifyAuthenticationResponse({
      response: { id: credential.id, rawId, type, clientExtensionResults, response: given },
      expectedChallenge: expected.check,
      expectedOrigin: this.#origin,
      expectedRPID: this.#site,
      requireUserVerification: true,
      credential: {
        id: credential.id,
        publicKey: new Uint8Array(passkey.publicKey),
        counter: Number(passkey.signCount),
      },
    }).catch(() => null);
    if (verified?.verified !== true) return null;
    const { hash, end } = expected.used();
    const { accountId, passkeyId } = passkey;
    const { newCounter } = verified.authenticationInfo;
    return withTransaction(
      pool,
      async (client) => {
        if (!(await store.useChallenge(client, hash, end))) return null;
        const at = new Date(clock.now());
        return (await store.usePasskey(client, accountId, passkeyId, newCounter, at)) ? passkey : null;
      },
      { accountId },
    );
  }
}

interface NewCredential {
  credential: { id: string; publicKey: Uint8Array; counter: number; transports?: string[] };
  synced: boolean;
  challengeHash: Buffer;
  expiresAt: Date;
}

function unfit(cause?: unknown): AppError {
  const message = 'credential: this is no passkey for the challenge that was given; begin again';
  return new AppError('invalid_input', message, { field: 'credential', cause });
}

function requireRoom(known: number): void {
  if (known >= PASSKEYS_MAX)
    throw new AppError('limit_reached', `an account has at most ${PASSKEYS_MAX} passkeys`);
}

/** We ask for none, so no browser sends one. Verifying one would mean asking other people's servers about it. */
function requireNoCertificates(credential: Created): void {
  const bytes = new Uint8Array(Buffer.from(credential.response.attestationObject, 'base64url'));
  const attestation = decodeAttestationObject(bytes);
  const format = attestation.get('fmt');
  const isSelf = format === 'packed' && attestation.get('attStmt').get('x5c') === undefined;
  if (format !== 'none' && !isSelf) throw new TypeError('an attestation that was not asked for');
}

/** The device's own idea of the account, when it gives one, is the account that the passkey is registered for. */
function belongsTo({ response }: Asserted, { accountId }: store.StoredPasskey): boolean {
  if (response.userHandle === undefined || response.userHandle === null) return true;
  return response.userHandle === Buffer.from(idBytes(accountId)).toString('base64url');
}
