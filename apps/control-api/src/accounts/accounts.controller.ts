import { Body, Controller, HttpCode, Param, Patch, Post } from '@nestjs/common';
import type { AccountId } from '@penstock/domain/ids';
import { ActorOf, type Actor } from '../http/actor.js';
import { id } from '../http/fields.js';
import { Require, Self } from '../http/require.decorator.js';
import * as schema from './accounts.schema.js';
import { AccountsService } from './accounts.service.js';
import type { Account } from './accounts.store.js';

@Controller('api/v1')
export class AccountsController {
  constructor(private readonly accounts: AccountsService) {}

  @Patch('me')
  @Self({ summary: 'Changes one’s own profile', reply: schema.profile })
  rename(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.changedProfile }) body: schema.ChangedProfile,
  ): Promise<Omit<Account, 'disabledAt'>> {
    return this.accounts.rename(actor, body);
  }

  @Post('accounts/:accountId/disable')
  @HttpCode(200)
  @Require('account.update', {
    summary: 'Shuts an account out of every tenant and ends its sessions',
    reply: schema.account,
    errors: ['not_found', 'conflict'],
    sensitive: true,
  })
  disable(
    @ActorOf() actor: Actor,
    @Param('accountId', { schema: id<AccountId>() }) accountId: AccountId,
  ): Promise<Account> {
    return this.accounts.disable(actor, accountId);
  }

  @Post('accounts/:accountId/enable')
  @HttpCode(200)
  @Require('account.update', {
    summary: 'Lets an account in again',
    reply: schema.account,
    errors: ['not_found'],
    sensitive: true,
  })
  enable(
    @ActorOf() actor: Actor,
    @Param('accountId', { schema: id<AccountId>() }) accountId: AccountId,
  ): Promise<Account> {
    return this.accounts.enable(actor, accountId);
  }
}
