import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query, Req, Res } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { tokens } from '../auth/auth.schema.js';
import type { Tokens } from '../auth/auth.service.js';
import { ActorOf, OriginOf, type Actor, type Origin } from '../http/actor.js';
import { id } from '../http/fields.js';
import { Public, Self } from '../http/require.decorator.js';
import type { Identity } from './identity-links.store.js';
import * as schema from './oidc.schema.js';
import { OidcService, type Redirect } from './oidc.service.js';

const providerParameter = { schema: id() };

@Controller('api/v1')
export class OidcController {
  constructor(private readonly oidc: OidcService) {}

  @Get('auth/oidc')
  @Public({
    summary: 'The operator’s identity providers, for the sign-in page',
    reply: schema.publicProviders,
  })
  list(): Promise<{ items: { identityProviderId: string; name: string }[] }> {
    return this.oidc.publicProviders();
  }

  @Get('auth/oidc/callback')
  @HttpCode(302)
  @Public({ summary: 'Where a provider sends a browser back to; leads to /signed-in with a one-time code' })
  async callback(
    @Query({ schema: schema.callbackQuery }) query: schema.CallbackQuery,
    @OriginOf() origin: Origin,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<void> {
    redirect(reply, await this.oidc.callback(query, request.headers.cookie, origin));
  }

  @Get('auth/oidc/:identityProviderId/start')
  @HttpCode(302)
  @Public({ summary: 'Sends a browser to an identity provider', errors: ['not_found'] })
  async start(
    @Param('identityProviderId', providerParameter) providerId: string,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<void> {
    redirect(reply, await this.oidc.start(providerId));
  }

  @Post('auth/oidc/exchange')
  @HttpCode(200)
  @Public({
    summary: 'Exchanges the one-time code of a browser that comes back from a provider for tokens',
    reply: tokens,
    errors: ['token_invalid', 'token_expired', 'forbidden', 'not_found'],
    secret: true,
    withoutKey: 'the code works once',
  })
  async exchange(
    @Body({ schema: schema.exchange }) body: schema.Exchange,
    @OriginOf() origin: Origin,
    @Req() request: FastifyRequest,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Tokens> {
    const { tokens: made, cookie } = await this.oidc.exchange(body, request.headers.cookie, origin);
    void reply.header('set-cookie', cookie);
    return made;
  }

  @Get('me/identities')
  @Self({ summary: 'The identities at providers that lead to one’s own account', reply: schema.identityList })
  identities(@ActorOf() actor: Actor): Promise<{ items: Identity[] }> {
    return this.oidc.identities(actor);
  }

  @Post('me/identities/start')
  @HttpCode(200)
  @Self({
    summary:
      'Begins adding an identity at a provider to one’s own account, with this browser and this session',
    reply: schema.started,
    errors: ['not_found', 'totp_required', 'rate_limited', 'unavailable'],
    withoutKey: 'a beginning that is not ended expires',
  })
  async startLink(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.startLink }) body: schema.StartLink,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<{ location: string }> {
    const { location, cookie } = await this.oidc.startLink(actor, body);
    void reply.header('set-cookie', cookie);
    return { location };
  }

  @Post('me/identities')
  @Self({
    summary: 'Adds the identity that this browser comes back with to one’s own account',
    reply: schema.identity,
    errors: ['token_invalid', 'token_expired', 'conflict', 'not_found'],
  })
  link(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.link }) body: { code: string },
    @Req() request: FastifyRequest,
  ): Promise<Identity> {
    return this.oidc.link(actor, body.code, request.headers.cookie);
  }

  @Delete('me/identities/:identityProviderId')
  @HttpCode(204)
  @Self({ summary: 'Removes an identity from one’s own account', errors: ['not_found'] })
  unlink(
    @ActorOf() actor: Actor,
    @Param('identityProviderId', providerParameter) providerId: string,
  ): Promise<void> {
    return this.oidc.unlink(actor, providerId);
  }
}

function redirect(reply: FastifyReply, { location, cookie }: Redirect): void {
  void reply.header('location', location).header('set-cookie', cookie);
}
