// Adding and removing WireGuard devices, under the subscription's lock, so that the device limit holds in a race.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type DeviceId, type SubscriptionId } from '@penstock/domain/ids';
import {
  newWireguardPrivateKey,
  wireguardKeyBytes,
  wireguardPublicKey,
} from '@penstock/domain/wireguard-keys';
import { sealSecret, type SecretPlace } from '@penstock/service/secret-box';
import { subscriptionChanged } from '../access-change.store.js';
import { appendAudit } from '../audit/audit.store.js';
import { Context } from '../context.js';
import { Database } from '../database.js';
import type { Actor } from '../http/actor.js';
import { getSubscription, lockSubscription } from '../subscriptions/subscriptions.store.js';
import type { NewDevice } from './devices.schema.js';
import * as store from './devices.store.js';

/** Where a device's private key is bound to. */
export function privateKeyPlace(tenantId: string, deviceId: string): SecretPlace {
  return { table: 'device', tenant: tenantId, row: deviceId };
}

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
      const own = request.publicKey === undefined ? newWireguardPrivateKey() : null;
      const publicText = own === null ? request.publicKey : wireguardPublicKey(own);
      const publicKey = wireguardKeyBytes(publicText, 'publicKey');
      if (!(await store.claimKey(acting, publicKey, deviceId))) {
        throw new AppError('conflict', 'publicKey: another device or a node has this key', {
          field: 'publicKey',
        });
      }
      const place = privateKeyPlace(actor.tenantId, deviceId);
      const privateKey =
        own === null ? null : sealSecret(this.context.config.DATA_KEY, Buffer.from(own), place);
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
        ...{ hasPrivateKey: own !== null, createdAt: acting.at },
      };
      const entry = { action: 'device.create', entity: 'device', entityId: deviceId };
      await appendAudit(acting, { ...entry, after: { ...device, subscriptionId } });
      return device;
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
