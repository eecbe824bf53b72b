import { Body, Controller, Get, Header, HttpCode, Param, Post } from '@nestjs/common';
import type { AccountId } from '@penstock/domain/ids';
import { ActorOf, OriginOf, type Actor, type Origin } from '../http/actor.js';
import { id } from '../http/fields.js';
import { Public, Require, Self } from '../http/require.decorator.js';
import * as schema from './password.schema.js';
import { PasswordService } from './password.service.js';
import { resetPage } from './reset.page.js';

@Controller()
export class PasswordController {
  constructor(private readonly password: PasswordService) {}

  @Get('reset')
  @Header('content-type', 'text/html; charset=utf-8')
  @Header('content-security-policy', resetPage.policy)
  @Public({ summary: 'The page that a reset link opens', contentType: 'text/html' })
  page(): string {
    return resetPage.html;
  }

  @Post('api/v1/me/password')
  @HttpCode(204)
  @Self({
    summary: 'Changes one’s own password and ends all other sessions',
    errors: ['rate_limited', 'unavailable'],
    withoutKey: 'a repetition fails on the current password, which is the old one then',
  })
  change(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.changePassword }) body: schema.ChangePassword,
  ): Promise<void> {
    return this.password.change(actor, body);
  }

  @Post('api/v1/members/:accountId/password-reset')
  @Require('password_reset.create', {
    summary: 'Makes a one-time link with which a member sets a new password',
    reply: schema.resetLink,
    errors: ['not_found'],
    sensitive: true,
    secret: true,
  })
  makeLink(
    @ActorOf() actor: Actor,
    @Param('accountId', { schema: id<AccountId>() }) accountId: AccountId,
    @Body({ schema: schema.newResetLink }) body: schema.NewResetLink,
  ): Promise<{ link: string; expiresAt: Date }> {
    return this.password.makeLink(actor, accountId, body);
  }

  @Post('api/v1/auth/reset')
  @HttpCode(204)
  @Public({
    summary: 'Sets a new password with a one-time link; ends all sessions, API keys and machine tokens',
    errors: ['invalid_input', 'token_invalid', 'token_used', 'token_expired', 'rate_limited', 'unavailable'],
    withoutKey: 'the link works once',
  })
  reset(@Body({ schema: schema.reset }) body: schema.Reset, @OriginOf() origin: Origin): Promise<void> {
    return this.password.reset(body, origin);
  }
}
