// Adding and removing WireGuard devices, under the subscription's lock, so that the device limit holds in a race.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type DeviceId, type SubscriptionId } from '@penstock/domain/ids';
import { subscriptionChanged } from '../access-change.store.js';
import { appendAudit } from '../audit/audit.store.js';
import { Context } from '../context.js';
import { Database } from '../database.js';
import type { Actor } from '../http/actor.js';
import { getSubscription, lockSubscription } from '../subscriptions/subscriptions.store.js';
import { claimKeys } from './device-keys.js';
import type { ChangedDevice, NewDevice, RotatedDevice } from './devices.schema.js';
import * as store from './devices.store.js';

@Injectable()
export class DevicesService {
  constructor(
    private readonly context: Context,
    private readonly database: Database,
  ) {}

  list(actor: Actor, subscriptionId: SubscriptionId): Promise<{ items: store.Device[] }> {
    return this.database.transaction(actor, async (acting) => {
      await getSubscription(acting, subscriptionId);
      return { items: await store.listDevices(acting, subscriptionId) };
    });
  }

  /** Throws not_found, quota_exceeded (device limit), conflict (key in use) or failed_precondition (no WireGuard). */
  add(actor: Actor, subscriptionId: SubscriptionId, request: NewDevice): Promise<store.Device> {
    return this.database.transaction(actor, async (acting) => {
      await lockSubscription(acting, subscriptionId);
      const subscription = await getSubscription(acting, subscriptionId);
      if (!subscription.engines.includes('wireguard')) {
        throw new AppError('failed_precondition', 'this subscription has no WireGuard');
      }
      const devices = await store.listDevices(acting, subscriptionId);
      if (devices.length >= subscription.deviceLimit) {
        throw new AppError(
          'quota_exceeded',
          `this subscription may have ${subscription.deviceLimit} devices`,
        );
      }
      const deviceId = newId<DeviceId>();
      const { DATA_KEY } = this.context.config;
      const { publicKey, privateKey } = await claimKeys(acting, DATA_KEY, deviceId, request.publicKey);
      await store.insertDevice(acting, {
        deviceId,
        subscriptionId,
        name: request.name,
        publicKey,
        privateKey,
      });
      await subscriptionChanged(acting, subscriptionId);
      const device: store.Device = {
        ...{ deviceId, name: request.name, publicKey: publicKey.toString('base64') },
        ...{ hasPrivateKey: privateKey !== null, createdAt: acting.at },
      };
      const entry = { action: 'device.create', entity: 'device', entityId: deviceId };
      await appendAudit(acting, { ...entry, after: { ...device, subscriptionId } });
      return device;
    });
  }

  /** Throws not_found. */
  get(actor: Actor, subscriptionId: SubscriptionId, deviceId: DeviceId): Promise<store.Device> {
    return this.database.transaction(actor, (acting) => store.getDevice(acting, deviceId, subscriptionId));
  }

  /** Throws not_found. */
  rename(
    actor: Actor,
    subscriptionId: SubscriptionId,
    deviceId: DeviceId,
    { name }: ChangedDevice,
  ): Promise<store.Device> {
    return this.database.transaction(actor, async (acting) => {
      await lockSubscription(acting, subscriptionId);
      const before = await store.getDevice(acting, deviceId, subscriptionId);
      if (before.name === name) return before;
      await store.renameDevice(acting, deviceId, name);
      const after = { ...before, name };
      const entry = { action: 'device.update', entity: 'device', entityId: deviceId };
      await appendAudit(acting, { ...entry, before: { ...before, subscriptionId }, after });
      return after;
    });
  }

  /** New keys: the customer's, or a pair of ours; the old ones open nothing any more. Throws not_found or conflict. */
  rotate(
    actor: Actor,
    subscriptionId: SubscriptionId,
    deviceId: DeviceId,
    request: RotatedDevice,
  ): Promise<store.Device> {
    return this.database.transaction(actor, async (acting) => {
      await lockSubscription(acting, subscriptionId);
      const before = await store.getDevice(acting, deviceId, subscriptionId);
      await store.releaseKeys(acting, subscriptionId, deviceId);
      const { DATA_KEY } = this.context.config;
      const keys = await claimKeys(acting, DATA_KEY, deviceId, request.publicKey);
      await store.replaceKeys(acting, [{ deviceId, ...keys }]);
      await subscriptionChanged(acting, subscriptionId);
      const after = await store.getDevice(acting, deviceId, subscriptionId);
      const entry = { action: 'device.rotate', entity: 'device', entityId: deviceId };
      await appendAudit(acting, { ...entry, before: { ...before, subscriptionId }, after });
      return after;
    });
  }

  /** Throws not_found. */
  remove(actor: Actor, subscriptionId: SubscriptionId, deviceId: DeviceId): Promise<void> {
    return this.database.transaction(actor, async (acting) => {
      await lockSubscription(acting, subscriptionId);
      const name = await store.removeDevice(acting, deviceId, subscriptionId);
      if (name === null) throw new AppError('not_found', 'there is no such device');
      await store.releaseKeys(acting, subscriptionId, deviceId);
      await subscriptionChanged(acting, subscriptionId);
      const entry = { action: 'device.delete', entity: 'device', entityId: deviceId };
      await appendAudit(acting, { ...entry, before: { deviceId, subscriptionId, name } });
    });
  }
}
