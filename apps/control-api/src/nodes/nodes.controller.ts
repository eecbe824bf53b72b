import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import type { NodeId } from '@penstock/domain/ids';
import { ActorOf, type Actor } from '../http/actor.js';
import { IfMatch, setEntityTag } from '../http/entity-tag.js';
import { id, type Page } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import { NodeLifeService, type NodeStatus } from './node-life.service.js';
import * as schema from './nodes.schema.js';
import { NodesService, type Node } from './nodes.service.js';

const nodeId = { schema: id<NodeId>() };

@Controller('api/v1/nodes')
export class NodesController {
  constructor(
    private readonly nodes: NodesService,
    private readonly life: NodeLifeService,
  ) {}

  @Post()
  @Require('node.create', {
    summary: 'Registers a node',
    reply: schema.node,
    errors: ['not_found', 'conflict', 'limit_reached'],
  })
  async register(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.newNode }) body: schema.NewNode,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Node> {
    return tagged(reply, await this.nodes.register(actor, body));
  }

  @Get()
  @Require('node.read', { summary: 'Lists nodes, own and shared', reply: schema.nodePage })
  list(
    @ActorOf() actor: Actor,
    @Query({ schema: schema.nodeQuery }) query: schema.NodeQuery,
  ): Promise<Page<Node>> {
    return this.nodes.list(actor, query);
  }

  @Get(':nodeId')
  @Require('node.read', { summary: 'One node', reply: schema.node, errors: ['not_found'] })
  async get(
    @ActorOf() actor: Actor,
    @Param('nodeId', nodeId) id: NodeId,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Node> {
    return tagged(reply, await this.nodes.get(actor, id));
  }

  @Get(':nodeId/status')
  @Require('node.read', {
    summary: 'What is known of a node of your own: heartbeat, engines, certificate, stream',
    reply: schema.nodeStatus,
    errors: ['not_found'],
  })
  status(@ActorOf() actor: Actor, @Param('nodeId', nodeId) id: NodeId): Promise<NodeStatus> {
    return this.life.status(actor, id);
  }

  @Patch(':nodeId')
  @Require('node.update', {
    summary: 'Changes name, address, multiplier, link or inbounds',
    reply: schema.node,
    errors: ['not_found', 'conflict', 'failed_precondition'],
  })
  async change(
    @ActorOf() actor: Actor,
    @Param('nodeId', nodeId) id: NodeId,
    @IfMatch() ifMatch: string | undefined,
    @Body({ schema: schema.changedNode }) body: schema.ChangedNode,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Node> {
    return tagged(reply, await this.nodes.change(actor, id, body, ifMatch));
  }

  @Post(':nodeId/drain')
  @HttpCode(200)
  @Require('node.update', {
    summary: 'Takes no new customers; those that are there go on',
    reply: schema.node,
    errors: ['not_found', 'failed_precondition'],
  })
  async drain(
    @ActorOf() actor: Actor,
    @Param('nodeId', nodeId) id: NodeId,
    @IfMatch() ifMatch: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Node> {
    return tagged(reply, await this.life.setState(actor, id, 'drain', ifMatch));
  }

  @Post(':nodeId/maintenance')
  @HttpCode(200)
  @Require('node.update', {
    summary: 'Serves nobody until it is activated again; other nodes of the groups go on',
    reply: schema.node,
    errors: ['not_found', 'failed_precondition'],
  })
  async maintenance(
    @ActorOf() actor: Actor,
    @Param('nodeId', nodeId) id: NodeId,
    @IfMatch() ifMatch: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Node> {
    return tagged(reply, await this.life.setState(actor, id, 'maintenance', ifMatch));
  }

  @Post(':nodeId/activate')
  @HttpCode(200)
  @Require('node.update', {
    summary: 'Ends drain or maintenance',
    reply: schema.node,
    errors: ['not_found', 'failed_precondition'],
  })
  async activate(
    @ActorOf() actor: Actor,
    @Param('nodeId', nodeId) id: NodeId,
    @IfMatch() ifMatch: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Node> {
    return tagged(reply, await this.life.setState(actor, id, 'active', ifMatch));
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
    @Param('nodeId', nodeId) id: NodeId,
    @Body({ schema: schema.revoke }) body: { reason: string },
  ): Promise<{ nodeId: NodeId; certificatesRevoked: number }> {
    return this.life.revoke(actor, id, body.reason);
  }

  @Post(':nodeId/reattest/approve')
  @HttpCode(200)
  @Require('node.approve', {
    summary: 'Lets a node whose certificate ran out have one for the key that it asks with',
    reply: schema.nodeStatus,
    errors: ['not_found', 'failed_precondition'],
    sensitive: true,
  })
  approve(
    @ActorOf() actor: Actor,
    @Param('nodeId', nodeId) id: NodeId,
    @Body({ schema: schema.approve }) body: { keyFingerprint: string },
  ): Promise<NodeStatus> {
    return this.life.approveReattest(actor, id, body.keyFingerprint);
  }

  @Post(':nodeId/stream/release')
  @HttpCode(200)
  @Require('stream.release', {
    summary: 'Lets a frozen stream of usage go on, in a new epoch',
    reply: schema.nodeStatus,
    errors: ['not_found', 'failed_precondition'],
    sensitive: true,
  })
  releaseStream(@ActorOf() actor: Actor, @Param('nodeId', nodeId) id: NodeId): Promise<NodeStatus> {
    return this.life.releaseStream(actor, id);
  }

  @Delete(':nodeId')
  @HttpCode(204)
  @Require('node.delete', {
    summary: 'Deletes a revoked node; its usage stays',
    errors: ['not_found', 'failed_precondition'],
  })
  delete(
    @ActorOf() actor: Actor,
    @Param('nodeId', nodeId) id: NodeId,
    @IfMatch() ifMatch: string | undefined,
  ): Promise<void> {
    return this.life.delete(actor, id, ifMatch);
  }
}

function tagged(reply: FastifyReply, node: Node): Node {
  setEntityTag(reply, node.version);
  return node;
}
