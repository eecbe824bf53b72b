import { Body, Controller, Param, Post } from '@nestjs/common';
import type { NodeId } from '@penstock/domain/ids';
import { ActorOf, type Actor } from '../http/actor.js';
import { id } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './join-tokens.schema.js';
import { JoinTokensService, type JoinToken } from './join-tokens.service.js';

@Controller('api/v1/nodes/:nodeId/join-tokens')
export class JoinTokensController {
  constructor(private readonly joinTokens: JoinTokensService) {}

  @Post()
  @Require('join_token.create', {
    summary: 'Makes a one-time join token for a node; it is shown this once',
    reply: schema.joinToken,
    errors: ['not_found', 'failed_precondition'],
  })
  create(
    @ActorOf() actor: Actor,
    @Param('nodeId', { schema: id<NodeId>() }) nodeId: NodeId,
    @Body({ schema: schema.newJoinToken }) body: schema.NewJoinToken,
  ): Promise<JoinToken> {
    return this.joinTokens.create(actor, nodeId, body.ttlMinutes);
  }
}
