import { Body, Controller, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import type { NodeId } from '@penstock/domain/ids';
import { ActorOf, type Actor } from '../http/actor.js';
import { id, pageQuery, type Page, type PageQuery } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './nodes.schema.js';
import { NodesService, type Node } from './nodes.service.js';

@Controller('api/v1/nodes')
export class NodesController {
  constructor(private readonly nodes: NodesService) {}

  @Post()
  @Require('node.create', { summary: 'Registers a node', reply: schema.node, errors: ['not_found'] })
  register(@ActorOf() actor: Actor, @Body({ schema: schema.newNode }) body: schema.NewNode): Promise<Node> {
    return this.nodes.register(actor, body);
  }

  @Get()
  @Require('node.read', { summary: 'Lists nodes, own and shared', reply: schema.nodePage })
  list(@ActorOf() actor: Actor, @Query({ schema: pageQuery }) query: PageQuery): Promise<Page<Node>> {
    return this.nodes.list(actor, query);
  }

  @Get(':nodeId')
  @Require('node.read', { summary: 'One node', reply: schema.node, errors: ['not_found'] })
  get(@ActorOf() actor: Actor, @Param('nodeId', { schema: id<NodeId>() }) nodeId: NodeId): Promise<Node> {
    return this.nodes.get(actor, nodeId);
  }

  @Post(':nodeId/revoke')
  @HttpCode(200)
  @Require('node.revoke', {
    summary: 'Revokes all certificates of a node and closes its streams',
    reply: schema.revoked,
    errors: ['not_found', 'unavailable'],
  })
  revoke(
    @ActorOf() actor: Actor,
    @Param('nodeId', { schema: id<NodeId>() }) nodeId: NodeId,
    @Body({ schema: schema.revoke }) body: { reason: string },
  ): Promise<{ nodeId: NodeId; certificatesRevoked: number }> {
    return this.nodes.revoke(actor, nodeId, body.reason);
  }
}
