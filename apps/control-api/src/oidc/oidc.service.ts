// Sign-in at an OpenID Connect provider: authorization code with PKCE, state and nonce; the browser comes back with a
// one-time code in the fragment and exchanges it. Invariants: an identity leads to an account only by a link that its
// person made, with password and code, never by a mail address or domain; a code is worth nothing without the cookie of the browser that
// began; a session opened by a tenant's own provider reaches that tenant and no other.
import { randomBytes } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import * as oidc from 'openid-client';
import { AppError } from '@penstock/domain/errors';
import { withTransaction } from '@penstock/db/transaction';
import { openSecret } from '@penstock/service/secret-box';
import { appendAudit } from '../audit/audit.store.js';
import { AuthService, type Tokens } from '../auth/auth.service.js';
import { personOf } from '../auth/person.js';
import { Proofs } from '../auth/proofs.js';
import { secretHash } from '../auth/refresh-token.js';
import { Context } from '../context.js';
import { Database } from '../database.js';
import type { Actor, Origin } from '../http/actor.js';
import { Limiter } from '../limits/limiter.js';
import { requireStillSignedIn } from '../password/still-signed-in.store.js';
import { findPlatform } from '../setup/setup.store.js';
import { flowCookie, newFlowExpiry, readFlow, type Flow, type Purpose } from './flow-cookie.js';
import { placeOfSecret } from './identity-providers.service.js';
import * as providers from './identity-providers.store.js';
import * as links from './identity-links.store.js';
import type { CallbackQuery, Exchange, StartLink } from './oidc.schema.js';
import { PROVIDER_CALL_MS_MAX, providerFetch } from './provider-fetch.js';

const CODE_MS = 60_000;
const PUBLIC_MAX = 20;
/** What a provider says about itself is kept this long. */
const DISCOVERED_MS = 600_000;
const DISCOVERED_MAX = 100;

export interface Redirect {
  location: string;
  cookie: string;
}

@Injectable()
export class OidcService {
  readonly #discovered = new Map<string, { untilMs: number; configuration: Promise<oidc.Configuration> }>();

  constructor(
    private readonly context: Context,
    private readonly database: Database,
    private readonly auth: AuthService,
    private readonly proofs: Proofs,
    private readonly limiter: Limiter,
  ) {}

  /** The operator's providers, for the sign-in page. */
  async publicProviders(): Promise<{ items: { identityProviderId: string; name: string }[] }> {
    const { pool } = this.context;
    const tenantId = await withTransaction(pool, (client) => findPlatform(client));
    if (tenantId === null) return { items: [] };
    const items = await withTransaction(pool, (client) => providers.listPublicProviders(client, PUBLIC_MAX), {
      tenantId,
    });
    return { items };
  }

  /** Where a browser goes to sign in. Throws not_found or unavailable. */
  start(identityProviderId: string): Promise<Redirect> {
    return this.#start(identityProviderId, 'sign_in', null);
  }

  /**
   * Where it goes to bring an identity for the account of who is signed in: asks for password and code, since the
   * identity opens the account from then on. Throws forbidden, totp_required, not_found, rate_limited or unavailable.
   */
  async startLink(actor: Actor, { identityProviderId, ...proof }: StartLink): Promise<Redirect> {
    const { familyId } = personOf(actor);
    await this.proofs.both(actor, proof);
    return this.#start(identityProviderId, 'link', familyId);
  }

  async #start(identityProviderId: string, purpose: Purpose, familyId: string | null): Promise<Redirect> {
    const provider = await this.#provider(identityProviderId);
    const configuration = await this.#discover(provider);
    const flow: Flow = {
      ...{ identityProviderId, purpose, familyId, state: oidc.randomState(), nonce: oidc.randomNonce() },
      ...{ codeVerifier: oidc.randomPKCECodeVerifier(), browser: randomBytes(32).toString('base64url') },
      expiresAtMs: newFlowExpiry(this.context.clock.now()),
    };
    const location = oidc.buildAuthorizationUrl(configuration, {
      redirect_uri: this.#callbackUrl(),
      scope: 'openid',
      code_challenge: await oidc.calculatePKCECodeChallenge(flow.codeVerifier),
      code_challenge_method: 'S256',
      state: flow.state,
      nonce: flow.nonce,
    });
    return { location: location.href, cookie: this.#cookie(flow) };
  }

  /** Back from the provider. Never throws: what went wrong is told in the fragment, by its code alone. */
  async callback(query: CallbackQuery, cookieHeader: string | undefined, origin: Origin): Promise<Redirect> {
    const page = `${this.context.config.PUBLIC_URL}/signed-in`;
    try {
      const { flow, code } = await this.#prove(query, cookieHeader, origin);
      return { location: `${page}#code=${code}`, cookie: this.#cookie(flow) };
    } catch (error) {
      const code = error instanceof AppError ? error.code : 'unauthenticated';
      this.context.log.warn({ error, code }, 'sign-in at a provider failed');
      return { location: `${page}#error=${code}`, cookie: this.#cookie(null) };
    }
  }

  /** Throws token_invalid, token_expired, forbidden (no link, no place) or invalid_input (which tenant?). */
  async exchange(
    request: Exchange,
    cookieHeader: string | undefined,
    origin: Origin,
  ): Promise<{ tokens: Tokens; cookie: string }> {
    const proven = await this.#take(request.code, cookieHeader, 'sign_in');
    const { provider, accountId } = await withTransaction(this.context.pool, async (client) => {
      await providers.beginSignIn(client, proven.identityProviderId);
      const found = await providers.findEnabledProvider(client, proven.identityProviderId);
      return {
        provider: found,
        accountId: found === null ? null : await links.findLinkedAccount(client, proven),
      };
    });
    if (provider === null || accountId === null) {
      throw new AppError('forbidden', 'this identity belongs to no account here; sign in and add it first');
    }
    const onlyTenantId = provider.platform ? null : provider.tenantId;
    const place = await this.auth.chooseTenant(accountId, onlyTenantId ?? request.tenantId);
    const tokens = await this.auth.open(accountId, place, origin, {
      onlyTenantId,
      still: async (client) => {
        await providers.beginSignIn(client, proven.identityProviderId);
        return (await links.findLinkedAccount(client, proven)) === accountId;
      },
    });
    return { tokens, cookie: this.#cookie(null) };
  }

  /** Adds the identity to the account of who is signed in. Throws conflict, forbidden, unauthenticated or token_invalid. */
  async link(actor: Actor, code: string, cookieHeader: string | undefined): Promise<links.Identity> {
    const { accountId, familyId } = personOf(actor);
    const proven = await this.#take(code, cookieHeader, 'link', familyId);
    const { identityProviderId, issuer } = proven;
    const { platform } = await this.#provider(identityProviderId);
    // Another tenant's provider vouches for nobody here. Throws not_found.
    if (!platform) await this.auth.chooseTenant(accountId, proven.tenantId);
    return this.database.transaction(actor, async (acting) => {
      await requireStillSignedIn(acting);
      await links.insertIdentityLink(acting, accountId, proven);
      await appendAudit(acting, {
        ...{ action: 'identity.link', entity: 'account', entityId: accountId },
        after: { identityProviderId, issuer },
      });
      return { identityProviderId, issuer, createdAt: acting.at };
    });
  }

  async identities(actor: Actor): Promise<{ items: links.Identity[] }> {
    const { accountId } = personOf(actor);
    const items = await this.database.transaction(actor, ({ client }) =>
      links.listIdentities(client, accountId),
    );
    return { items };
  }

  /** Throws not_found. */
  unlink(actor: Actor, identityProviderId: string): Promise<void> {
    const { accountId } = personOf(actor);
    return this.database.transaction(actor, async (acting) => {
      const issuer = await links.deleteIdentity(acting.client, accountId, identityProviderId);
      if (issuer === null) throw new AppError('not_found', 'there is no such identity');
      await appendAudit(acting, {
        ...{ action: 'identity.unlink', entity: 'account', entityId: accountId },
        before: { identityProviderId, issuer },
      });
    });
  }

  /** The provider's word, checked by its keys, turned into a one-time code for this browser. */
  async #prove(
    query: CallbackQuery,
    cookieHeader: string | undefined,
    origin: Origin,
  ): Promise<{ flow: Flow; code: string }> {
    const { clock, config, pool } = this.context;
    const flow = readFlow(config.DATA_KEY, this.#isSecure(), cookieHeader, clock.now());
    if (query.state !== flow.state)
      throw new AppError('token_invalid', 'this answer belongs to another sign-in');
    if (query.error !== undefined) throw new AppError('forbidden', 'the provider did not agree');
    // Each code that is shown here is a question to the provider.
    await this.limiter.takeGuess('sign_in', origin.ip);
    const provider = await this.#provider(flow.identityProviderId);
    const configuration = await this.#discover(provider);
    const url = new URL(this.#callbackUrl());
    for (const [name, value] of Object.entries(query)) {
      if (typeof value === 'string') url.searchParams.set(name, value);
    }
    const answer = await oidc.authorizationCodeGrant(configuration, url, {
      pkceCodeVerifier: flow.codeVerifier,
      expectedState: flow.state,
      expectedNonce: flow.nonce,
      idTokenExpected: true,
    });
    const claims = answer.claims();
    if (claims === undefined || claims.sub === '' || claims.sub.length > 255) {
      throw new AppError('unauthenticated', 'the provider named nobody');
    }
    const code = randomBytes(32).toString('base64url');
    const at = new Date(clock.now());
    await withTransaction(pool, (client) =>
      links.insertExchange(
        client,
        {
          ...{ hash: secretHash(code), browserHash: secretHash(flow.browser), purpose: flow.purpose },
          ...{ tenantId: provider.tenantId, identityProviderId: provider.identityProviderId },
          ...{ issuer: claims.iss, subject: claims.sub, expiresAt: new Date(at.getTime() + CODE_MS) },
        },
        at,
      ),
    );
    return { flow, code };
  }

  async #take(
    code: string,
    cookieHeader: string | undefined,
    purpose: Purpose,
    familyId: string | null = null,
  ): Promise<links.Proven> {
    const { clock, config, pool } = this.context;
    const flow = readFlow(config.DATA_KEY, this.#isSecure(), cookieHeader, clock.now());
    if (flow.familyId !== familyId) throw new AppError('token_invalid', 'this was begun by another session');
    const at = new Date(clock.now());
    const proven = await withTransaction(pool, (client) =>
      links.takeExchange(client, secretHash(code), secretHash(flow.browser), purpose, at),
    );
    if (proven === null) throw new AppError('token_invalid', 'this code is not valid, or was used');
    return proven;
  }

  async #provider(id: string): Promise<providers.SigningInProvider> {
    const provider = await withTransaction(this.context.pool, async (client) => {
      await providers.beginSignIn(client, id);
      return providers.findEnabledProvider(client, id);
    });
    if (provider === null) throw new AppError('not_found', 'there is no such identity provider');
    return provider;
  }

  /** What the provider says about itself; kept for a while, asked once by many. Throws unavailable. */
  #discover(provider: providers.SigningInProvider): Promise<oidc.Configuration> {
    const nowMs = this.context.clock.monotonic();
    const key = `${provider.identityProviderId} ${provider.version}`;
    const kept = this.#discovered.get(key);
    if (kept !== undefined && kept.untilMs > nowMs) return kept.configuration;
    this.#discovered.delete(key);
    if (this.#discovered.size >= DISCOVERED_MAX) this.#discovered.clear();
    const configuration = this.#ask(provider).catch((cause: unknown) => {
      this.#discovered.delete(key);
      throw new AppError('unavailable', 'the identity provider does not answer as it should', { cause });
    });
    this.#discovered.set(key, { untilMs: nowMs + DISCOVERED_MS, configuration });
    return configuration;
  }

  #ask(provider: providers.SigningInProvider): Promise<oidc.Configuration> {
    const { DATA_KEY, NODE_ENV } = this.context.config;
    const { tenantId, identityProviderId, issuer, clientId, secretSealed, platform } = provider;
    const secret = openSecret(DATA_KEY, secretSealed, placeOfSecret(tenantId, identityProviderId)).toString();
    // providerFetch decides which plain addresses there are; the library only knows all or none.
    const execute = NODE_ENV === 'production' ? [] : [oidc.allowInsecureRequests];
    return oidc.discovery(new URL(issuer), clientId, secret, undefined, {
      [oidc.customFetch]: providerFetch(platform, NODE_ENV),
      timeout: PROVIDER_CALL_MS_MAX / 1000,
      execute,
    });
  }

  #callbackUrl(): string {
    return `${this.context.config.PUBLIC_URL}/api/v1/auth/oidc/callback`;
  }

  #cookie(flow: Flow | null): string {
    return flowCookie(this.context.config.DATA_KEY, this.#isSecure(), flow);
  }

  #isSecure(): boolean {
    return this.context.config.PUBLIC_URL.startsWith('https:');
  }
}
