import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Query, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import type { AccountId } from '@penstock/domain/ids';
import { ActorOf, type Actor } from '../http/actor.js';
import { IfMatch, setEntityTag } from '../http/entity-tag.js';
import { id, type Page } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './members.schema.js';
import { MembersService } from './members.service.js';
import type { Member } from './members.store.js';

const param = { schema: id<AccountId>() };

@Controller('api/v1/members')
export class MembersController {
  constructor(private readonly members: MembersService) {}

  @Get()
  @Require('member.read', { summary: 'Lists the people of this tenant', reply: schema.memberPage })
  list(
    @ActorOf() actor: Actor,
    @Query({ schema: schema.memberQuery }) query: schema.MemberQuery,
  ): Promise<Page<Member>> {
    return this.members.list(actor, query);
  }

  @Get(':accountId')
  @Require('member.read', { summary: 'One member', reply: schema.member, errors: ['not_found'] })
  async get(
    @ActorOf() actor: Actor,
    @Param('accountId', param) accountId: AccountId,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Member> {
    return tagged(reply, await this.members.get(actor, accountId));
  }

  @Patch(':accountId')
  @Require('member.update', {
    summary: 'Gives a member another role, none above one’s own',
    reply: schema.member,
    errors: ['not_found', 'conflict', 'failed_precondition'],
    sensitive: true,
  })
  async change(
    @ActorOf() actor: Actor,
    @Param('accountId', param) accountId: AccountId,
    @Body({ schema: schema.changedMember }) body: schema.ChangedMember,
    @IfMatch() ifMatch: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<Member> {
    return tagged(reply, await this.members.change(actor, accountId, body, ifMatch));
  }

  @Delete(':accountId')
  @HttpCode(204)
  @Require('member.delete', {
    summary: 'Sends a member away from this tenant; the account stays',
    errors: ['not_found', 'conflict', 'failed_precondition'],
    sensitive: true,
  })
  remove(
    @ActorOf() actor: Actor,
    @Param('accountId', param) accountId: AccountId,
    @IfMatch() ifMatch: string | undefined,
  ): Promise<void> {
    return this.members.remove(actor, accountId, ifMatch);
  }
}

function tagged(reply: FastifyReply, member: Member): Member {
  setEntityTag(reply, member.version);
  return member;
}
