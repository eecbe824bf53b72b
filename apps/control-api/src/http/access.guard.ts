// Before every handler: who is it (passport, access token), what is he in this tenant (database), may he do this
// (permissions.ts). A handler without a declaration is refused here too, although none gets past the start.
import { Injectable, type ExecutionContext } from '@nestjs/common';
import { AuthGuard } from '@nestjs/passport';
import { AppError } from '@penstock/domain/errors';
import type { AccessClaims } from '../auth/access-token.js';
import { ACCESS_TOKEN } from '../auth/access-token.strategy.js';
import { Standings } from '../auth/standing.store.js';
import { allows } from '../permissions.js';
import { originOf, type ActingRequest } from './actor.js';
import { declarationOf } from './require.decorator.js';

@Injectable()
export class AccessGuard extends AuthGuard(ACCESS_TOKEN) {
  constructor(private readonly standings: Standings) {
    super();
  }

  override async canActivate(context: ExecutionContext): Promise<boolean> {
    const declaration = declarationOf(context.getHandler());
    if (declaration === undefined) throw new AppError('forbidden', 'this route is closed');
    if (declaration.access === 'public') return true;
    await super.canActivate(context);
    const request = context.switchToHttp().getRequest<ActingRequest & { user: AccessClaims }>();
    const { accountId, tenantId, familyId } = request.user;
    const standing = await this.standings.of(request.user);
    if (declaration.access !== 'self' && !allows(standing, declaration.access)) {
      throw new AppError('forbidden', `your role may not do this (${declaration.access})`);
    }
    request.actor = {
      ...{ ...originOf(request), ...standing, accountId, tenantId, familyId },
      ...{ keyId: null, scopes: null },
    };
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
