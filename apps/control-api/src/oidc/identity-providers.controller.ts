import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { ActorOf, type Actor } from '../http/actor.js';
import { IfMatch, setEntityTag } from '../http/entity-tag.js';
import { id, pageQuery, type Page, type PageQuery } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './identity-providers.schema.js';
import { IdentityProvidersService } from './identity-providers.service.js';
import type { IdentityProvider } from './identity-providers.store.js';

const providerParameter = { schema: id() };

@Controller('api/v1/identity-providers')
export class IdentityProvidersController {
  constructor(private readonly providers: IdentityProvidersService) {}

  @Post()
  @Require('identity_provider.create', {
    summary: 'Lets an OpenID Connect provider vouch for people of this tenant',
    reply: schema.identityProvider,
    errors: ['limit_reached'],
    sensitive: true,
  })
  create(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.newIdentityProvider }) body: schema.NewIdentityProvider,
  ): Promise<IdentityProvider> {
    return this.providers.create(actor, body);
  }

  @Get()
  @Require('identity_provider.read', {
    summary: 'Lists identity providers, without their secrets',
    reply: schema.identityProviderPage,
  })
  list(
    @ActorOf() actor: Actor,
    @Query({ schema: pageQuery }) query: PageQuery,
  ): Promise<Page<IdentityProvider>> {
    return this.providers.list(actor, query);
  }

  @Get(':identityProviderId')
  @Require('identity_provider.read', {
    summary: 'One identity provider',
    reply: schema.identityProvider,
    errors: ['not_found'],
  })
  async get(
    @ActorOf() actor: Actor,
    @Param('identityProviderId', providerParameter) providerId: string,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<IdentityProvider> {
    const provider = await this.providers.get(actor, providerId);
    setEntityTag(reply, provider.version);
    return provider;
  }

  @Patch(':identityProviderId')
  @Require('identity_provider.update', {
    summary: 'Changes an identity provider',
    reply: schema.identityProvider,
    errors: ['not_found', 'failed_precondition'],
    sensitive: true,
  })
  async change(
    @ActorOf() actor: Actor,
    @Param('identityProviderId', providerParameter) providerId: string,
    @IfMatch() ifMatch: string | undefined,
    @Body({ schema: schema.changedIdentityProvider }) body: schema.ChangedIdentityProvider,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<IdentityProvider> {
    const provider = await this.providers.change(actor, providerId, body, ifMatch);
    setEntityTag(reply, provider.version);
    return provider;
  }

  @Delete(':identityProviderId')
  @HttpCode(204)
  @Require('identity_provider.delete', {
    summary: 'Removes an identity provider and the links that people made to it',
    errors: ['not_found', 'failed_precondition'],
    sensitive: true,
  })
  delete(
    @ActorOf() actor: Actor,
    @Param('identityProviderId', providerParameter) providerId: string,
    @IfMatch() ifMatch: string | undefined,
  ): Promise<void> {
    return this.providers.delete(actor, providerId, ifMatch);
  }
}
