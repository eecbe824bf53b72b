import { Controller, Get, Header } from '@nestjs/common';
import { Public } from '../http/require.decorator.js';
import { KeyRing, type Ring } from './key-ring.js';
import * as schema from './signing-keys.schema.js';

@Controller('.well-known/jwks.json')
export class JwksController {
  constructor(private readonly ring: KeyRing) {}

  @Get()
  @Public({ summary: 'The public keys that verify our tokens', reply: schema.jwks })
  @Header('cache-control', 'public, max-age=300')
  async get(): Promise<Ring['jwks']> {
    return (await this.ring.get()).jwks;
  }
}
