// Passport's view of our access tokens: takes the bearer token of a request and has it verified.
import { Injectable } from '@nestjs/common';
import { PassportStrategy } from '@nestjs/passport';
import { Strategy } from 'passport-strategy';
import type { FastifyRequest } from 'fastify';
import { AccessTokens, type AccessClaims } from './access-token.js';

export const ACCESS_TOKEN = 'access-token';
const BEARER = /^Bearer ([A-Za-z0-9_.-]+)$/;

type Verified = (error: Error | null, claims?: AccessClaims) => void;

class BearerStrategy extends Strategy {
  override name = ACCESS_TOKEN;

  // The mixin of @nestjs/passport passes the callback as the last argument; it calls `validate` below.
  constructor(private readonly callback: (token: string, done: Verified) => void) {
    super();
  }

  override authenticate(request: FastifyRequest): void {
    const token = BEARER.exec(request.headers.authorization ?? '')?.[1];
    if (token === undefined) return this.fail('Bearer', 401);
    this.callback(token, (error, claims) => {
      if (error !== null) this.error(error);
      else if (claims === undefined) this.fail('Bearer', 401);
      else this.success(claims);
    });
  }
}

@Injectable()
export class AccessTokenStrategy extends PassportStrategy(BearerStrategy, ACCESS_TOKEN) {
  constructor(private readonly tokens: AccessTokens) {
    super();
  }

  validate(token: string): Promise<AccessClaims> {
    return this.tokens.verify(token);
  }
}
