import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import type { NodeGroupId, NodeId } from '@penstock/domain/ids';
import { Database } from '../database.js';
import { ActorOf, type Actor } from '../http/actor.js';
import { IfMatch, setEntityTag } from '../http/entity-tag.js';
import { id, pageOf, pageQuery, type Page, type PageQuery } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './node-groups.schema.js';
import { getNodeGroup, NodeGroupsService } from './node-groups.service.js';
import { listNodeGroups, type NodeGroup } from './node-groups.store.js';

const nodeGroupId = { schema: id<NodeGroupId>() };

@Controller('api/v1/node-groups')
export class NodeGroupsController {
  constructor(
    private readonly database: Database,
    private readonly groups: NodeGroupsService,
  ) {}

  @Post()
  @Require('node_group.create', {
    summary: 'Makes a node group',
    reply: schema.nodeGroup,
    errors: ['conflict'],
  })
  create(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.newNodeGroup }) body: schema.NewNodeGroup,
  ): Promise<NodeGroup> {
    return this.groups.create(actor, body.name);
  }

  @Get()
  @Require('node_group.read', { summary: 'Lists node groups, own and shared', reply: schema.nodeGroupPage })
  async list(
    @ActorOf() actor: Actor,
    @Query({ schema: pageQuery }) query: PageQuery,
  ): Promise<Page<NodeGroup>> {
    const rows = await this.database.transaction(actor, (acting) => listNodeGroups(acting, query));
    return pageOf(rows, query.limit, (group) => group.nodeGroupId);
  }

  @Get(':nodeGroupId')
  @Require('node_group.read', { summary: 'One node group', reply: schema.nodeGroup, errors: ['not_found'] })
  async get(
    @ActorOf() actor: Actor,
    @Param('nodeGroupId', nodeGroupId) groupId: NodeGroupId,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<NodeGroup> {
    const group = await this.database.transaction(actor, (acting) => getNodeGroup(acting, groupId));
    setEntityTag(reply, group.version);
    return group;
  }

  @Patch(':nodeGroupId')
  @Require('node_group.update', {
    summary: 'Gives the group another name',
    reply: schema.nodeGroup,
    errors: ['not_found', 'conflict', 'failed_precondition'],
  })
  async rename(
    @ActorOf() actor: Actor,
    @Param('nodeGroupId', nodeGroupId) groupId: NodeGroupId,
    @IfMatch() ifMatch: string | undefined,
    @Body({ schema: schema.changedNodeGroup }) body: schema.ChangedNodeGroup,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<NodeGroup> {
    const group = await this.groups.rename(actor, groupId, body.name, ifMatch);
    setEntityTag(reply, group.version);
    return group;
  }

  @Delete(':nodeGroupId')
  @HttpCode(204)
  @Require('node_group.delete', {
    summary: 'Deletes a group that no plan uses; its nodes stay',
    errors: ['not_found', 'conflict', 'failed_precondition'],
  })
  delete(
    @ActorOf() actor: Actor,
    @Param('nodeGroupId', nodeGroupId) groupId: NodeGroupId,
    @IfMatch() ifMatch: string | undefined,
  ): Promise<void> {
    return this.groups.delete(actor, groupId, ifMatch);
  }

  @Delete(':nodeGroupId/nodes/:nodeId')
  @HttpCode(204)
  @Require('node_group.update', { summary: 'Takes a node out of the group', errors: ['not_found'] })
  removeNode(
    @ActorOf() actor: Actor,
    @Param('nodeGroupId', nodeGroupId) groupId: NodeGroupId,
    @Param('nodeId', { schema: id<NodeId>() }) nodeId: NodeId,
  ): Promise<void> {
    return this.groups.removeNode(actor, groupId, nodeId);
  }

  @Post(':nodeGroupId/nodes')
  @HttpCode(200)
  @Require('node_group.update', {
    summary: 'Puts a node into the group',
    reply: schema.nodeGroup,
    errors: ['not_found', 'failed_precondition'],
  })
  addNode(
    @ActorOf() actor: Actor,
    @Param('nodeGroupId', nodeGroupId) groupId: NodeGroupId,
    @Body({ schema: schema.newMember }) body: schema.NewMember,
  ): Promise<NodeGroup> {
    return this.groups.addNode(actor, groupId, body.nodeId);
  }
}
