import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import type { KeyId } from '@penstock/domain/ids';
import { ActorOf, type Actor } from '../http/actor.js';
import { id, pageQuery, type Page, type PageQuery } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './api-keys.schema.js';
import { ApiKeysService } from './api-keys.service.js';
import type { ApiKey } from './api-keys.store.js';

@Controller('api/v1/api-keys')
export class ApiKeysController {
  constructor(private readonly keys: ApiKeysService) {}

  @Post()
  @Require('api_key.create', {
    summary: 'Makes an API key; it is shown this once',
    reply: schema.madeApiKey,
    errors: ['limit_reached'],
    sensitive: true,
    secret: true,
  })
  create(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.newApiKey }) body: schema.NewApiKey,
  ): Promise<ApiKey & { key: string }> {
    return this.keys.create(actor, body);
  }

  @Get()
  @Require('api_key.read', { summary: 'Lists API keys, without their secrets', reply: schema.apiKeyPage })
  list(@ActorOf() actor: Actor, @Query({ schema: pageQuery }) query: PageQuery): Promise<Page<ApiKey>> {
    return this.keys.list(actor, query);
  }

  @Get(':keyId')
  @Require('api_key.read', { summary: 'One API key', reply: schema.apiKey, errors: ['not_found'] })
  get(@ActorOf() actor: Actor, @Param('keyId', { schema: id<KeyId>() }) keyId: KeyId): Promise<ApiKey> {
    return this.keys.get(actor, keyId);
  }

  @Delete(':keyId')
  @HttpCode(204)
  @Require('api_key.delete', {
    summary: 'Revokes an API key, everywhere within a second',
    errors: ['not_found'],
    sensitive: true,
  })
  revoke(@ActorOf() actor: Actor, @Param('keyId', { schema: id<KeyId>() }) keyId: KeyId): Promise<void> {
    return this.keys.revoke(actor, keyId);
  }
}
