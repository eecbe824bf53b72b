import { Body, Controller, Delete, Get, HttpCode, Param, Post } from '@nestjs/common';
import type { NodeId } from '@penstock/domain/ids';
import { ActorOf, type Actor } from '../http/actor.js';
import { id } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './join-tokens.schema.js';
import { JoinTokensService, type JoinToken } from './join-tokens.service.js';
import type { ListedJoinToken } from './join-tokens.store.js';

@Controller('api/v1/nodes/:nodeId/join-tokens')
export class JoinTokensController {
  constructor(private readonly joinTokens: JoinTokensService) {}

  @Post()
  @Require('join_token.create', {
    summary: 'Makes a one-time join token for a node; it is shown this once',
    reply: schema.joinToken,
    errors: ['not_found', 'failed_precondition'],
    sensitive: true,
    secret: true,
  })
  create(
    @ActorOf() actor: Actor,
    @Param('nodeId', { schema: id<NodeId>() }) nodeId: NodeId,
    @Body({ schema: schema.newJoinToken }) body: schema.NewJoinToken,
  ): Promise<JoinToken> {
    return this.joinTokens.create(actor, nodeId, body.ttlMinutes);
  }

  @Get()
  @Require('join_token.read', {
    summary: 'The newest join tokens of a node, without their secrets',
    reply: schema.joinTokenList,
    errors: ['not_found'],
  })
  list(
    @ActorOf() actor: Actor,
    @Param('nodeId', { schema: id<NodeId>() }) nodeId: NodeId,
  ): Promise<{ items: ListedJoinToken[] }> {
    return this.joinTokens.list(actor, nodeId);
  }

  @Delete(':joinTokenId')
  @HttpCode(204)
  @Require('join_token.delete', {
    summary: 'Revokes a join token that no node has used',
    errors: ['not_found', 'failed_precondition'],
  })
  revoke(
    @ActorOf() actor: Actor,
    @Param('nodeId', { schema: id<NodeId>() }) nodeId: NodeId,
    @Param('joinTokenId', { schema: id() }) joinTokenId: string,
  ): Promise<void> {
    return this.joinTokens.revoke(actor, nodeId, joinTokenId);
  }
}
