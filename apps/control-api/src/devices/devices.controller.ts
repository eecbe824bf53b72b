import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post } from '@nestjs/common';
import type { DeviceId, SubscriptionId } from '@penstock/domain/ids';
import { ActorOf, type Actor } from '../http/actor.js';
import { id } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './devices.schema.js';
import { DevicesService } from './devices.service.js';
import type { Device } from './devices.store.js';

const subscriptionId = { schema: id<SubscriptionId>() };

@Controller('api/v1/subscriptions/:subscriptionId/devices')
export class DevicesController {
  constructor(private readonly devices: DevicesService) {}

  @Get()
  @Require('subscription.read', {
    summary: 'WireGuard devices of a subscription',
    reply: schema.deviceList,
    errors: ['not_found'],
  })
  list(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', subscriptionId) id: SubscriptionId,
  ): Promise<{ items: Device[] }> {
    return this.devices.list(actor, id);
  }

  @Post()
  @Require('device.create', {
    summary: 'Adds a WireGuard device',
    reply: schema.device,
    errors: ['not_found', 'conflict', 'failed_precondition', 'quota_exceeded'],
  })
  add(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', subscriptionId) id: SubscriptionId,
    @Body({ schema: schema.newDevice }) body: schema.NewDevice,
  ): Promise<Device> {
    return this.devices.add(actor, id, body);
  }

  @Get(':deviceId')
  @Require('subscription.read', { summary: 'One device', reply: schema.device, errors: ['not_found'] })
  get(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', subscriptionId) subscription: SubscriptionId,
    @Param('deviceId', { schema: id<DeviceId>() }) deviceId: DeviceId,
  ): Promise<Device> {
    return this.devices.get(actor, subscription, deviceId);
  }

  @Patch(':deviceId')
  @Require('device.update', { summary: 'Renames a device', reply: schema.device, errors: ['not_found'] })
  rename(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', subscriptionId) subscription: SubscriptionId,
    @Param('deviceId', { schema: id<DeviceId>() }) deviceId: DeviceId,
    @Body({ schema: schema.changedDevice }) body: schema.ChangedDevice,
  ): Promise<Device> {
    return this.devices.rename(actor, subscription, deviceId, body);
  }

  @Post(':deviceId/rotate')
  @HttpCode(200)
  @Require('device.update', {
    summary: 'Gives a device new keys',
    reply: schema.device,
    errors: ['not_found', 'conflict'],
  })
  rotate(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', subscriptionId) subscription: SubscriptionId,
    @Param('deviceId', { schema: id<DeviceId>() }) deviceId: DeviceId,
    @Body({ schema: schema.rotatedDevice }) body: schema.RotatedDevice,
  ): Promise<Device> {
    return this.devices.rotate(actor, subscription, deviceId, body);
  }

  @Delete(':deviceId')
  @HttpCode(204)
  @Require('device.delete', { summary: 'Removes a WireGuard device', errors: ['not_found'] })
  remove(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', subscriptionId) subscription: SubscriptionId,
    @Param('deviceId', { schema: id<DeviceId>() }) deviceId: DeviceId,
  ): Promise<void> {
    return this.devices.remove(actor, subscription, deviceId);
  }
}
