import { Body, Controller, Get, HttpCode, Param, Post } from '@nestjs/common';
import { ActorOf, type Actor } from '../http/actor.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './signing-keys.schema.js';
import { SigningKeys, type ListedKey } from './signing-keys.service.js';

@Controller('api/v1/signing-keys')
export class SigningKeysController {
  constructor(private readonly keys: SigningKeys) {}

  @Get()
  @Require('signing_key.read', {
    summary: 'Lists the keys that sign our tokens, newest first; never a private half',
    reply: schema.signingKeyList,
  })
  list(@ActorOf() actor: Actor): Promise<{ items: ListedKey[] }> {
    return this.keys.list(actor);
  }

  @Post('rotate')
  @HttpCode(200)
  @Require('signing_key.rotate', {
    summary: 'Signs with the next key from now on; tokens of the current one stay good until they expire',
    reply: schema.signingKey,
    errors: ['pending', 'conflict'],
    sensitive: true,
  })
  rotate(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.rotate }) body: { immediate: boolean },
  ): Promise<ListedKey> {
    return this.keys.rotate(actor, body.immediate);
  }

  @Post('rollback')
  @HttpCode(200)
  @Require('signing_key.rotate', {
    summary: 'Signs with the key that signed before',
    reply: schema.signingKey,
    errors: ['failed_precondition'],
    sensitive: true,
  })
  rollback(@ActorOf() actor: Actor): Promise<ListedKey> {
    return this.keys.rollback(actor);
  }

  @Post(':kid/retire')
  @HttpCode(200)
  @Require('signing_key.rotate', {
    summary: 'Refuses a key and every token that it signed, everywhere within a second',
    reply: schema.signingKey,
    errors: ['not_found', 'failed_precondition'],
    sensitive: true,
  })
  retire(@ActorOf() actor: Actor, @Param('kid', { schema: schema.kid }) kid: string): Promise<ListedKey> {
    return this.keys.retire(actor, kid);
  }
}
