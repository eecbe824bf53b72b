import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import type { KeyId } from '@penstock/domain/ids';
import { ActorOf, OriginOf, type Actor, type Origin } from '../http/actor.js';
import { id, pageQuery, type Page, type PageQuery } from '../http/fields.js';
import { Public, Require } from '../http/require.decorator.js';
import * as schema from './machine-tokens.schema.js';
import { MachineTokensService } from './machine-tokens.service.js';
import type { MachineToken } from './machine-tokens.store.js';

@Controller('api/v1/machine-tokens')
export class MachineTokensController {
  constructor(private readonly tokens: MachineTokensService) {}

  @Post()
  @Require('machine_token.create', {
    summary: 'Makes a machine token: narrow, signed, shown this once',
    reply: schema.madeMachineToken,
    errors: ['limit_reached'],
    sensitive: true,
    secret: true,
  })
  create(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.newMachineToken }) body: schema.NewMachineToken,
  ): Promise<MachineToken & { token: string }> {
    return this.tokens.create(actor, body);
  }

  @Post('attenuate')
  @Public({
    summary: 'Makes a narrower machine token from one that is shown; it dies with that one',
    reply: schema.madeMachineToken,
    errors: ['unauthenticated', 'forbidden', 'limit_reached'],
    secret: true,
    withoutKey: 'each narrowed token is one of its own, and one whose answer was lost expires by itself',
  })
  attenuate(
    @Body({ schema: schema.attenuation }) body: schema.Attenuation,
    @OriginOf() origin: Origin,
  ): Promise<MachineToken & { token: string }> {
    return this.tokens.attenuate(body, origin);
  }

  @Get()
  @Require('machine_token.read', { summary: 'Lists machine tokens', reply: schema.machineTokenPage })
  list(@ActorOf() actor: Actor, @Query({ schema: pageQuery }) query: PageQuery): Promise<Page<MachineToken>> {
    return this.tokens.list(actor, query);
  }

  @Get(':keyId')
  @Require('machine_token.read', {
    summary: 'One machine token',
    reply: schema.machineToken,
    errors: ['not_found'],
  })
  get(@ActorOf() actor: Actor, @Param('keyId', { schema: id<KeyId>() }) keyId: KeyId): Promise<MachineToken> {
    return this.tokens.get(actor, keyId);
  }

  @Delete(':keyId')
  @HttpCode(204)
  @Require('machine_token.delete', {
    summary: 'Revokes a machine token and all that were narrowed from it, everywhere within a second',
    errors: ['not_found'],
    sensitive: true,
  })
  revoke(@ActorOf() actor: Actor, @Param('keyId', { schema: id<KeyId>() }) keyId: KeyId): Promise<void> {
    return this.tokens.revoke(actor, keyId);
  }
}
