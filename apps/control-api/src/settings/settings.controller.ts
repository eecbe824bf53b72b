import { Body, Controller, Get, Patch, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { ActorOf, type Actor } from '../http/actor.js';
import { IfMatch, setEntityTag } from '../http/entity-tag.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './settings.schema.js';
import { SettingsService, type SettingsView } from './settings.service.js';

@Controller('api/v1/settings')
export class SettingsController {
  constructor(private readonly settings: SettingsService) {}

  @Get()
  @Require('settings.read', { summary: 'Settings of the platform', reply: schema.settingsReply })
  async get(@ActorOf() actor: Actor, @Res({ passthrough: true }) reply: FastifyReply): Promise<SettingsView> {
    return tagged(reply, await this.settings.get(actor));
  }

  @Patch()
  @Require('settings.update', {
    summary: 'Changes settings of the platform',
    reply: schema.settingsReply,
    errors: ['failed_precondition'],
    sensitive: true,
  })
  async change(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.changedSettings }) body: schema.ChangedSettings,
    @IfMatch() ifMatch: string | undefined,
    @Res({ passthrough: true }) reply: FastifyReply,
  ): Promise<SettingsView> {
    return tagged(reply, await this.settings.change(actor, body, ifMatch));
  }
}

function tagged(reply: FastifyReply, settings: SettingsView): SettingsView {
  setEntityTag(reply, settings.version);
  return settings;
}
