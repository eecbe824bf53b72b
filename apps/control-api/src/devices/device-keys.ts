// WireGuard keys of devices: made, claimed for the whole installation, sealed, replaced. A key is claimed before it is
// written, so that no two living devices ever have the same.
import { AppError } from '@penstock/domain/errors';
import type { DeviceId, SubscriptionId } from '@penstock/domain/ids';
import {
  newWireguardPrivateKey,
  wireguardKeyBytes,
  wireguardPublicKey,
} from '@penstock/domain/wireguard-keys';
import { sealSecret, type SecretPlace } from '@penstock/service/secret-box';
import type { Acting } from '../database.js';
import * as store from './devices.store.js';

/** Where a device's private key is bound to. */
export function privateKeyPlace(tenantId: string, deviceId: string): SecretPlace {
  return { table: 'device', tenant: tenantId, row: deviceId };
}

export interface DeviceKeys {
  publicKey: Buffer;
  /** Sealed; null when the key is the customer's own. */
  privateKey: Buffer | null;
}

/** The customer's key, or without one a pair of ours. Claims it. Throws conflict or invalid_input naming publicKey. */
export async function claimKeys(
  acting: Acting,
  dataKey: Buffer,
  deviceId: DeviceId,
  theirs: string | undefined,
): Promise<DeviceKeys> {
  const own = theirs === undefined ? newWireguardPrivateKey() : null;
  const publicKey = wireguardKeyBytes(own === null ? theirs : wireguardPublicKey(own), 'publicKey');
  if (!(await store.claimKey(acting, publicKey, deviceId))) {
    throw new AppError('conflict', 'publicKey: another device or a node has this key', {
      field: 'publicKey',
    });
  }
  const place = privateKeyPlace(acting.actor.tenantId, deviceId);
  return { publicKey, privateKey: own === null ? null : sealSecret(dataKey, Buffer.from(own), place) };
}

/** Gives new keys to the subscription's devices whose keys are ours; returns how many. The caller holds its lock. */
export async function rotateOwnKeys(
  acting: Acting,
  dataKey: Buffer,
  subscriptionId: SubscriptionId,
): Promise<number> {
  const devices = (await store.listDevices(acting, subscriptionId)).filter((device) => device.hasPrivateKey);
  const made = devices.map(({ deviceId }) => {
    const own = newWireguardPrivateKey();
    const privateKey = sealSecret(
      dataKey,
      Buffer.from(own),
      privateKeyPlace(acting.actor.tenantId, deviceId),
    );
    return { deviceId, publicKey: wireguardKeyBytes(wireguardPublicKey(own), 'publicKey'), privateKey };
  });
  await store.replaceKeys(acting, made);
  return made.length;
}
