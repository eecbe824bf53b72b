import { Body, Controller, Delete, Get, Header, HttpCode, Param, Post, Query } from '@nestjs/common';
import { ActorOf, OriginOf, type Actor, type Origin } from '../http/actor.js';
import { id, pageQuery, type Page, type PageQuery } from '../http/fields.js';
import { Public, Require, Self } from '../http/require.decorator.js';
import { invitePage } from './invite.page.js';
import * as schema from './invitations.schema.js';
import { InvitationsService, type Joined } from './invitations.service.js';
import type { Invitation } from './invitations.store.js';

const ONCE = 'the link works once';

@Controller()
export class InvitationsController {
  constructor(private readonly invitations: InvitationsService) {}

  @Get('invite')
  @Header('content-type', 'text/html; charset=utf-8')
  @Header('content-security-policy', invitePage.policy)
  @Public({ summary: 'The page that an invitation opens', contentType: 'text/html' })
  page(): string {
    return invitePage.html;
  }

  @Post('api/v1/invitations')
  @Require('invitation.create', {
    summary: 'Invites somebody into this tenant; the answer shows the one-time link once',
    reply: schema.madeInvitation,
    errors: ['conflict'],
    sensitive: true,
    secret: true,
  })
  create(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.newInvitation }) body: schema.NewInvitation,
  ): Promise<Invitation & { link: string }> {
    return this.invitations.create(actor, body);
  }

  @Get('api/v1/invitations')
  @Require('invitation.read', { summary: 'Lists invitations', reply: schema.invitationPage })
  list(@ActorOf() actor: Actor, @Query({ schema: pageQuery }) query: PageQuery): Promise<Page<Invitation>> {
    return this.invitations.list(actor, query);
  }

  @Delete('api/v1/invitations/:invitationId')
  @HttpCode(204)
  @Require('invitation.delete', {
    summary: 'Takes an invitation back',
    errors: ['not_found', 'conflict'],
    withoutKey: 'one that was taken back stays so',
  })
  revoke(
    @ActorOf() actor: Actor,
    @Param('invitationId', { schema: id() }) invitationId: string,
  ): Promise<void> {
    return this.invitations.revoke(actor, invitationId);
  }

  @Post('api/v1/invitations/accept')
  @HttpCode(200)
  @Public({
    summary: 'Joins by link: with a new account, or with the password of the one that exists',
    reply: schema.joined,
    errors: [
      ...(['unauthenticated', 'forbidden', 'conflict'] as const),
      ...(['token_invalid', 'token_used', 'token_expired', 'unavailable'] as const),
    ],
    withoutKey: ONCE,
  })
  accept(
    @Body({ schema: schema.acceptInvitation }) body: schema.AcceptInvitation,
    @OriginOf() origin: Origin,
  ): Promise<Joined> {
    return this.invitations.accept(body, origin);
  }

  @Post('api/v1/invitations/join')
  @HttpCode(200)
  @Self({
    summary: 'Joins by link as the person who is signed in; the link must be for his address',
    reply: schema.joined,
    errors: ['conflict', 'token_invalid', 'token_used', 'token_expired'],
    withoutKey: ONCE,
  })
  join(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.joinTenant }) body: { token: string },
  ): Promise<Joined> {
    return this.invitations.join(actor, body.token);
  }
}
