import { Body, Controller, Delete, Get, HttpCode, Post } from '@nestjs/common';
import { ActorOf, type Actor } from '../http/actor.js';
import { Self } from '../http/require.decorator.js';
import * as schema from './totp.schema.js';
import { TotpService } from './totp.service.js';

const PROOF_ERRORS = ['totp_required', 'rate_limited', 'unavailable'] as const;

@Controller('api/v1/me/totp')
export class TotpController {
  constructor(private readonly totp: TotpService) {}

  @Get()
  @Self({ summary: 'Whether an authenticator app is in force', reply: schema.state })
  state(@ActorOf() actor: Actor): Promise<{ enabled: boolean; recoveryCodesLeft: number }> {
    return this.totp.state(actor);
  }

  @Post()
  @Self({
    summary: 'Gives a secret for an authenticator app; it is in force with its first code',
    reply: schema.enrolment,
    errors: PROOF_ERRORS,
    secret: true,
  })
  begin(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.proof }) body: schema.Proof,
  ): Promise<{ secret: string; uri: string }> {
    return this.totp.begin(actor, body);
  }

  @Post('confirm')
  @HttpCode(200)
  @Self({
    summary: 'Puts the authenticator in force, ends all other sessions, gives recovery codes',
    reply: schema.recoveryCodes,
    errors: ['conflict'],
    secret: true,
  })
  confirm(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.confirmation }) body: { code: string },
  ): Promise<{ recoveryCodes: string[] }> {
    return this.totp.confirm(actor, body.code);
  }

  @Post('recovery-codes')
  @Self({
    summary: 'Gives new recovery codes; the old ones are good no more',
    reply: schema.recoveryCodes,
    errors: [...PROOF_ERRORS, 'conflict'],
    secret: true,
  })
  renewCodes(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.proof }) body: schema.Proof,
  ): Promise<{ recoveryCodes: string[] }> {
    return this.totp.renewCodes(actor, body);
  }

  @Delete()
  @HttpCode(204)
  @Self({
    summary: 'Takes the authenticator away',
    errors: [...PROOF_ERRORS, 'conflict'],
    withoutKey: 'a code is accepted once',
  })
  remove(@ActorOf() actor: Actor, @Body({ schema: schema.proof }) body: schema.Proof): Promise<void> {
    return this.totp.remove(actor, body);
  }
}
