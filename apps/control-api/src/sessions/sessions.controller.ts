import { Controller, Delete, Get, HttpCode, Param } from '@nestjs/common';
import type { AccountId } from '@penstock/domain/ids';
import { ActorOf, type Actor } from '../http/actor.js';
import { id } from '../http/fields.js';
import { Require, Self } from '../http/require.decorator.js';
import * as schema from './sessions.schema.js';
import { SessionsService } from './sessions.service.js';
import type { Session } from './sessions.store.js';

const AGAIN = 'a session that has ended stays ended';

@Controller('api/v1')
export class SessionsController {
  constructor(private readonly sessions: SessionsService) {}

  @Get('me/sessions')
  @Self({ summary: 'Lists one’s own sessions', reply: schema.sessionList })
  list(@ActorOf() actor: Actor): Promise<{ items: Session[] }> {
    return this.sessions.list(actor);
  }

  @Delete('me/sessions/:sessionId')
  @HttpCode(204)
  @Self({ summary: 'Ends one of one’s own sessions', errors: ['not_found'], withoutKey: AGAIN })
  end(@ActorOf() actor: Actor, @Param('sessionId', { schema: id() }) sessionId: string): Promise<void> {
    return this.sessions.end(actor, sessionId);
  }

  @Delete('me/sessions')
  @Self({ summary: 'Ends all of one’s own sessions but this', reply: schema.ended, withoutKey: AGAIN })
  endOthers(@ActorOf() actor: Actor): Promise<{ ended: number }> {
    return this.sessions.endOthers(actor);
  }

  @Delete('members/:accountId/sessions')
  @Require('member_session.delete', {
    summary: 'Ends a member’s sessions that acted in this tenant; the platform ends all of them',
    reply: schema.ended,
    errors: ['not_found'],
    withoutKey: AGAIN,
  })
  endOfMember(
    @ActorOf() actor: Actor,
    @Param('accountId', { schema: id<AccountId>() }) accountId: AccountId,
  ): Promise<{ ended: number }> {
    return this.sessions.endOfMember(actor, accountId);
  }
}
