// Sensitive routes are served to the addresses of ADMIN_CIDRS only, whatever a token says: keys, people's recovery,
// identity providers. The address is the socket's, or what a trusted proxy says. A list that is not set, empty,
// malformed or of everything keeps the process from starting (config.ts).
import type { BlockList } from 'node:net';
import { Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { parseAdminCidrs, PRIVATE_CIDRS } from '@penstock/service/admin-cidrs';
import { Context } from '../context.js';
import { originOf, type ActingRequest } from './actor.js';
import { isIn } from './client-address.js';
import { declarationOf } from './require.decorator.js';

@Injectable()
export class AllowListGuard implements CanActivate {
  readonly #list: BlockList;

  constructor({ config }: Context) {
    this.#list = config.ADMIN_CIDRS ?? parseAdminCidrs(PRIVATE_CIDRS.join(','));
  }

  canActivate(execution: ExecutionContext): boolean {
    if (declarationOf(execution.getHandler())?.sensitive !== true) return true;
    const { ip } = originOf(execution.switchToHttp().getRequest<ActingRequest>());
    if (isIn(this.#list, ip)) return true;
    throw new AppError('address_not_allowed', 'this is not possible from your address');
  }
}
