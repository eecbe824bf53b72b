// Before every handler: who is it (passport: access token, machine token or API key), what is he in this tenant
// (database), may he do this (permissions.ts) and, for a key, may it (its scopes, addresses and paths). A handler
// without a declaration is refused here too, although none gets past the start. A token that was verified, and a standing
// read, within their times are taken as they are, without passport and without a promise.
import { isIPv6 } from 'node:net';
import { Injectable, type ExecutionContext } from '@nestjs/common';
import { AuthGuard } from '@nestjs/passport';
import { AppError } from '@penstock/domain/errors';
import { AccessTokens } from '../auth/access-token.js';
import { ACCESS_TOKEN } from '../auth/access-token.strategy.js';
import { useMachineToken } from '../auth/key-standing.store.js';
import { isUnder, type KeyLimits, type Standing } from '../auth/standing.js';
import { Standings, type Credential } from '../auth/standing.store.js';
import { Context } from '../context.js';
import { allows, keyMayHold } from '../permissions.js';
import { originOf, type ActingRequest } from './actor.js';
import { declarationOf, type Declaration } from './require.decorator.js';

const SCHEME = 'Bearer ';

type Guarded = ActingRequest & { user: Credential };

@Injectable()
export class AccessGuard extends AuthGuard(ACCESS_TOKEN) {
  constructor(
    private readonly tokens: AccessTokens,
    private readonly standings: Standings,
    private readonly context: Context,
  ) {
    super();
  }

  override canActivate(execution: ExecutionContext): boolean | Promise<boolean> {
    const declaration = declarationOf(execution.getHandler());
    if (declaration === undefined) throw new AppError('forbidden', 'this route is closed');
    if (declaration.access === 'public') return true;
    const request = execution.switchToHttp().getRequest<Guarded>();
    const standing = this.#known(request);
    if (standing === undefined) return this.#ask(execution, declaration, request);
    admit(standing, declaration, request);
    return true;
  }

  /** Of a person whose token and standing are at hand; undefined for everybody else. */
  #known(request: Guarded): Standing | undefined {
    const { authorization: header = '' } = request.headers;
    if (!header.startsWith(SCHEME)) return undefined;
    const claims = this.tokens.known(header.slice(SCHEME.length));
    if (claims?.kind !== 'session') return undefined;
    // What passport would leave: an open stream asks for its rights again.
    request.user = claims;
    return this.standings.known(claims);
  }

  async #ask(execution: ExecutionContext, declaration: Declaration, request: Guarded): Promise<boolean> {
    await super.canActivate(execution);
    const standing = await this.standings.of(request.user);
    admit(standing, declaration, request);
    const { tenantId, key } = standing;
    if (key?.singleUse === true) {
      await useMachineToken(this.context.pool, tenantId, key.keyId, new Date(this.context.clock.now()));
      this.standings.forget(`k:${key.keyId}`);
    }
    return true;
  }

  override handleRequest<User>(error: unknown, user: User | false | null): User {
    if (error instanceof AppError) throw error;
    if (error !== null && error !== undefined)
      throw new AppError('internal', 'sign-in check failed', { cause: error });
    if (user === false || user === null) throw new AppError('unauthenticated', 'sign in first');
    return user;
  }
}

/** Judges, and says who acts. Throws forbidden or address_not_allowed. */
function admit(standing: Standing, declaration: Declaration, request: Guarded): void {
  judge(standing, declaration, request);
  const { accountId, tenantId, role, platform, familyId, confined, key } = standing;
  const { requestId, ip, userAgent, traceId = null } = originOf(request);
  const [keyId, scopes] = key === null ? [null, null] : [key.keyId, [...key.scopes]];
  // prettier-ignore
  request.actor = {
    requestId, ip, userAgent, traceId, accountId, tenantId, role, platform, familyId, confined, keyId, scopes,
  };
}

/** Throws forbidden or address_not_allowed. */
function judge(standing: Standing, { access, confined }: Declaration, request: Guarded): void {
  const { key } = standing;
  const changes = request.method !== 'GET' && request.method !== 'HEAD';
  if (access !== 'public' && access !== 'self' && !allows(standing, access)) {
    throw new AppError('forbidden', `your role may not do this (${access})`);
  }
  if (standing.suspended && changes && access !== 'self') {
    throw new AppError('forbidden', 'this tenant is suspended');
  }
  // Else a tenant's identity provider could see a person's other tenants, and give itself lasting access to them.
  if (standing.confined && access === 'self' && confined !== true) {
    throw new AppError('forbidden', 'sign in with your own password or passkey for this');
  }
  if (key !== null) judgeKey(key, access, request);
}

function judgeKey(key: KeyLimits, access: Declaration['access'], request: Guarded): void {
  if (access === 'public' || access === 'self' || !keyMayHold(access)) {
    throw new AppError('forbidden', 'this needs a person who is signed in, not a key');
  }
  if (!key.scopes.has(access)) throw new AppError('forbidden', `this key has no scope for this (${access})`);
  const { ip } = originOf(request);
  if (key.networks !== null && (ip === null || !key.networks.check(ip, isIPv6(ip) ? 'ipv6' : 'ipv4'))) {
    throw new AppError('address_not_allowed', 'this key may not be used from this address');
  }
  const path = request.url.split('?', 1)[0] ?? '';
  if (key.pathPrefix !== null && !isUnder(key.pathPrefix, path)) {
    throw new AppError('forbidden', 'this token may not ask for this path');
  }
}
