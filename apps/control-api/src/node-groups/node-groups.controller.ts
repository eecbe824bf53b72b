import { Body, Controller, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import type { NodeGroupId } from '@penstock/domain/ids';
import { Database } from '../database.js';
import { ActorOf, type Actor } from '../http/actor.js';
import { id, pageOf, pageQuery, type Page, type PageQuery } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './node-groups.schema.js';
import { getNodeGroup, NodeGroupsService } from './node-groups.service.js';
import { listNodeGroups, type NodeGroup } from './node-groups.store.js';

@Controller('api/v1/node-groups')
export class NodeGroupsController {
  constructor(
    private readonly database: Database,
    private readonly groups: NodeGroupsService,
  ) {}

  @Post()
  @Require('node_group.create', { summary: 'Makes a node group', reply: schema.nodeGroup })
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
  get(
    @ActorOf() actor: Actor,
    @Param('nodeGroupId', { schema: id<NodeGroupId>() }) groupId: NodeGroupId,
  ): Promise<NodeGroup> {
    return this.database.transaction(actor, (acting) => getNodeGroup(acting, groupId));
  }

  @Post(':nodeGroupId/nodes')
  @HttpCode(200)
  @Require('node_group.update', {
    summary: 'Puts a node into the group',
    reply: schema.nodeGroup,
    errors: ['not_found'],
  })
  addNode(
    @ActorOf() actor: Actor,
    @Param('nodeGroupId', { schema: id<NodeGroupId>() }) groupId: NodeGroupId,
    @Body({ schema: schema.newMember }) body: schema.NewMember,
  ): Promise<NodeGroup> {
    return this.groups.addNode(actor, groupId, body.nodeId);
  }
}
