import { Body, Controller, Delete, Get, HttpCode, Param, Post } from '@nestjs/common';
import type { Tokens } from '../auth/auth.service.js';
import { tokens } from '../auth/auth.schema.js';
import { ActorOf, OriginOf, type Actor, type Origin } from '../http/actor.js';
import { id } from '../http/fields.js';
import { Public, Self } from '../http/require.decorator.js';
import { proof, type Proof } from '../totp/totp.schema.js';
import * as schema from './passkeys.schema.js';
import { PasskeysService } from './passkeys.service.js';
import type { Passkey } from './passkeys.store.js';

@Controller('api/v1')
export class PasskeysController {
  constructor(private readonly passkeys: PasskeysService) {}

  @Post('me/passkeys/options')
  @HttpCode(200)
  @Self({
    summary: 'What a browser makes a passkey from; good for five minutes',
    reply: schema.options,
    errors: ['totp_required', 'limit_reached', 'rate_limited', 'unavailable'],
    withoutKey: 'it changes nothing',
  })
  addOptions(@ActorOf() actor: Actor, @Body({ schema: proof }) body: Proof): Promise<{ challenge: string }> {
    return this.passkeys.addOptions(actor, body);
  }

  @Post('me/passkeys')
  @Self({ summary: 'Adds a passkey', reply: schema.passkey, errors: ['conflict', 'limit_reached'] })
  add(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.newPasskey }) body: schema.NewPasskey,
  ): Promise<Passkey> {
    return this.passkeys.add(actor, body);
  }

  @Get('me/passkeys')
  @Self({ summary: 'Lists one’s own passkeys', reply: schema.passkeyList })
  list(@ActorOf() actor: Actor): Promise<{ items: Passkey[] }> {
    return this.passkeys.list(actor);
  }

  @Delete('me/passkeys/:passkeyId')
  @HttpCode(204)
  @Self({ summary: 'Removes a passkey', errors: ['not_found'] })
  remove(@ActorOf() actor: Actor, @Param('passkeyId', { schema: id() }) passkeyId: string): Promise<void> {
    return this.passkeys.remove(actor, passkeyId);
  }

  @Post('auth/passkey/options')
  @HttpCode(200)
  @Public({
    summary: 'A challenge for signing in with a passkey, the same for everybody',
    withoutKey: 'a challenge that is not answered expires',
    reply: schema.options,
  })
  signInOptions(): Promise<{ challenge: string }> {
    return this.passkeys.signInOptions();
  }

  @Post('auth/passkey')
  @HttpCode(200)
  @Public({
    summary: 'Signs a person in with a passkey',
    withoutKey: 'a challenge is answered once',
    reply: tokens,
    errors: ['invalid_input', 'unauthenticated', 'forbidden', 'not_found', 'rate_limited'],
  })
  signIn(@Body({ schema: schema.signIn }) body: schema.SignIn, @OriginOf() origin: Origin): Promise<Tokens> {
    return this.passkeys.signIn(body, origin);
  }
}
