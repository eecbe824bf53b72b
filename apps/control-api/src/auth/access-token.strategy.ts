// Passport's view of a request: takes its bearer token (an access token, a machine's, or an API key) and has it verified.
import { Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import { Strategy } from 'passport-strategy';
import type { FastifyRequest } from 'fastify';
import { AccessTokens } from './access-token.js';
import { apiKeyHash, isApiKey } from './api-key.js';
import type { Credential } from './standing.store.js';

export const ACCESS_TOKEN = 'access-token';
const BEARER = /^Bearer ([A-Za-z0-9_.-]+)$/;

type Verified = (error: Error | null, credential?: Credential) => void;

class BearerStrategy extends Strategy {
  override name = ACCESS_TOKEN;

  // The mixin of @nestjs/passport passes the callback as the last argument; it calls `validate` below.
  constructor(private readonly callback: (token: string, done: Verified) => void) {
    super();
  }

  override authenticate(request: FastifyRequest): void {
    const token = BEARER.exec(request.headers.authorization ?? '')?.[1];
    if (token === undefined) return this.fail('Bearer', 401);
    this.callback(token, (error, credential) => {
      if (error !== null) this.error(error);
      else if (credential === undefined) this.fail('Bearer', 401);
      else this.success(credential);
    });
  }
}

@Injectable()
export class AccessTokenStrategy extends PassportStrategy(BearerStrategy, ACCESS_TOKEN) {
  constructor(private readonly tokens: AccessTokens) {
    super();
  }

  async validate(token: string): Promise<Credential> {
    // An API key is looked up with its maker's standing (standing.store.ts); here it only has its shape.
    return isApiKey(token) ? { kind: 'key', hash: apiKeyHash(token) } : this.tokens.verify(token);
  }
}
