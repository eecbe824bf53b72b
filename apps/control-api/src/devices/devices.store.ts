// WireGuard devices of a subscription. A removed device keeps its row, because late usage still names it.
import type { DeviceId, SubscriptionId } from '@penstock/domain/ids';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';

export interface Device {
  deviceId: DeviceId;
  name: string;
  /** Standard base64. */
  publicKey: string;
  hasPrivateKey: boolean;
  createdAt: Date;
}

const selectAll = statement<Device>(
  'device.of_subscription',
  `SELECT device_id AS "deviceId", name, encode(public_key, 'base64') AS "publicKey",
          private_key IS NOT NULL AS "hasPrivateKey", created_at AS "createdAt"
     FROM device WHERE tenant_id = $1 AND subscription_id = $2 AND removed_at IS NULL ORDER BY device_id`,
);

export function listDevices({ actor, client }: Acting, subscriptionId: SubscriptionId): Promise<Device[]> {
  return run(client, selectAll, [actor.tenantId, subscriptionId]);
}

const keyInUse = statement<{ exists: boolean }>(
  'device.key_in_use',
  `SELECT EXISTS (SELECT FROM device WHERE tenant_id = $1 AND public_key = $2 AND removed_at IS NULL) AS exists`,
);

/** WireGuard knows a peer by its key alone, so one key is one device. */
export async function isKeyInUse({ actor, client }: Acting, publicKey: Buffer): Promise<boolean> {
  return (await run(client, keyInUse, [actor.tenantId, publicKey]))[0]?.exists ?? false;
}

const insertRow = statement(
  'device.insert',
  `INSERT INTO device (tenant_id, device_id, subscription_id, name, public_key, private_key, created_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7)`,
);

export interface NewDeviceRow {
  deviceId: DeviceId;
  subscriptionId: SubscriptionId;
  name: string;
  publicKey: Buffer;
  /** Sealed; null when the key is the customer's own. */
  privateKey: Buffer | null;
}

export async function insertDevice({ actor, client, at }: Acting, row: NewDeviceRow): Promise<void> {
  const { deviceId, subscriptionId, name, publicKey, privateKey } = row;
  await run(client, insertRow, [actor.tenantId, deviceId, subscriptionId, name, publicKey, privateKey, at]);
}

const removeRow = statement<{ name: string }>(
  'device.remove',
  `UPDATE device SET removed_at = $4, private_key = NULL
    WHERE tenant_id = $1 AND device_id = $2 AND subscription_id = $3 AND removed_at IS NULL RETURNING name`,
);

/** Its name, or null when the subscription has no such device. The private key is forgotten at once. */
export async function removeDevice(
  { actor, client, at }: Acting,
  deviceId: DeviceId,
  subscriptionId: SubscriptionId,
): Promise<string | null> {
  return (await run(client, removeRow, [actor.tenantId, deviceId, subscriptionId, at]))[0]?.name ?? null;
}
