import { Body, Controller, Get, Header, Post } from '@nestjs/common';
import { AuthService, type Tokens } from '../auth/auth.service.js';
import { OriginOf, type Origin } from '../http/actor.js';
import { Public } from '../http/require.decorator.js';
import { setupPage, setupPagePolicy } from './setup.page.js';
import * as schema from './setup.schema.js';
import { SetupService } from './setup.service.js';

@Controller()
export class SetupController {
  constructor(
    private readonly setup: SetupService,
    private readonly auth: AuthService,
  ) {}

  @Get('setup')
  @Header('content-type', 'text/html; charset=utf-8')
  @Header('content-security-policy', setupPagePolicy)
  @Public({ summary: 'The page that the one-time set-up link opens', contentType: 'text/html' })
  page(): string {
    return setupPage;
  }

  @Get('api/v1/setup')
  @Public({ summary: 'Whether the first owner is still to be made', reply: schema.setupState })
  async state(): Promise<{ needed: boolean }> {
    return { needed: await this.setup.needed() };
  }

  @Post('api/v1/setup')
  @Public({
    summary: 'Makes the first owner, once, and signs him in',
    withoutKey: 'the link works once',
    reply: schema.setupDone,
    errors: ['invalid_input', 'not_found', 'token_used', 'conflict', 'rate_limited', 'unavailable'],
  })
  async claim(
    @Body({ schema: schema.setup }) body: schema.Setup,
    @OriginOf() origin: Origin,
  ): Promise<Tokens> {
    const { accountId, place } = await this.setup.claim(body, origin);
    return this.auth.open(accountId, place, origin);
  }
}
