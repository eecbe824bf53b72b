import { Body, Controller, Get, HttpCode, Post } from '@nestjs/common';
import { ActorOf, OriginOf, type Actor, type Origin } from '../http/actor.js';
import { Public, Self } from '../http/require.decorator.js';
import * as schema from './auth.schema.js';
import { AuthService, type Tokens, type Whoami } from './auth.service.js';

@Controller('api/v1/auth')
export class AuthController {
  constructor(private readonly auth: AuthService) {}

  @Post('sign-in')
  @HttpCode(200)
  @Public({
    summary: 'Signs a person in to one tenant',
    withoutKey: 'a session whose answer was lost is never used and expires',
    reply: schema.tokens,
    errors: [
      ...(['invalid_input', 'unauthenticated', 'totp_required', 'forbidden', 'not_found'] as const),
      ...(['rate_limited', 'unavailable'] as const),
    ],
  })
  signIn(@Body({ schema: schema.signIn }) body: schema.SignIn, @OriginOf() origin: Origin): Promise<Tokens> {
    return this.auth.signIn(body, origin);
  }

  @Post('refresh')
  @HttpCode(200)
  @Public({
    summary: 'Exchanges a refresh token for its successor and a new access token',
    withoutKey: 'the same refresh token gives the same successor for a few seconds',
    reply: schema.tokens,
    errors: ['invalid_input', 'token_invalid', 'token_expired', 'forbidden', 'not_found', 'rate_limited'],
  })
  refresh(
    @Body({ schema: schema.refresh }) body: schema.Refresh,
    @OriginOf() origin: Origin,
  ): Promise<Tokens> {
    return this.auth.refresh(body, origin);
  }

  @Post('sign-out')
  @HttpCode(204)
  @Public({
    summary: 'Ends the session of a refresh token',
    errors: ['invalid_input'],
    withoutKey: 'a session ends once',
  })
  signOut(
    @Body({ schema: schema.signOut }) body: { refreshToken: string },
    @OriginOf() origin: Origin,
  ): Promise<void> {
    return this.auth.signOut(body.refreshToken, origin);
  }

  @Post('switch')
  @HttpCode(200)
  @Self({
    summary: 'Gives an access token for another tenant of this person',
    reply: schema.accessToken,
    errors: ['invalid_input', 'not_found'],
  })
  switchTenant(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.switchTenant }) body: { tenantId: Actor['tenantId'] },
  ): Promise<Omit<Tokens, 'refreshToken'>> {
    return this.auth.switchTenant(actor, body.tenantId);
  }

  @Get('me')
  @Self({
    summary: 'Who is signed in, where, and what he may do',
    reply: schema.whoami,
    confined: true,
  })
  whoami(@ActorOf() actor: Actor): Promise<Whoami> {
    return this.auth.whoami(actor);
  }
}
