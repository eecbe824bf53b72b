// WireGuard devices of a subscription. A removed device keeps its row, because late usage still names it.
import { AppError } from '@penstock/domain/errors';
import type { DeviceId, NodeId, SubscriptionId } from '@penstock/domain/ids';
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

const claim = statement<{ claimed: boolean }>(
  'device_key.claim',
  `INSERT INTO device_key (public_key, device_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING true AS claimed`,
);

/**
 * False when a living device, of whatever tenant, or a node has this key: WireGuard knows a peer by its key alone, and
 * takes none that has its own. A node's key is claimed under the node's id and never let go.
 */
export async function claimKey(
  { client }: Acting,
  publicKey: Buffer,
  owner: DeviceId | NodeId,
): Promise<boolean> {
  return (await run(client, claim, [publicKey, owner])).length === 1;
}

const release = statement(
  'device_key.release',
  `DELETE FROM device_key WHERE device_id IN (SELECT device_id FROM device WHERE tenant_id = $1 AND subscription_id = $2
     AND (device_id = $3 OR $3 IS NULL))`,
);

/** Lets go of the keys of one device, or of all of the subscription's (null). */
export async function releaseKeys(
  { actor, client }: Acting,
  subscriptionId: SubscriptionId,
  deviceId: DeviceId | null,
): Promise<void> {
  await run(client, release, [actor.tenantId, subscriptionId, deviceId]);
}

const forgetKeys = statement(
  'device_key.forget',
  'DELETE FROM device_key WHERE device_id = ANY ($1::uuid[])',
);
const claimMany = statement(
  'device_key.claim_many',
  `INSERT INTO device_key (public_key, device_id) SELECT * FROM unnest($1::bytea[], $2::uuid[])`,
);
const setKeys = statement(
  'device.set_keys',
  `UPDATE device d SET public_key = i.public_key, private_key = i.private_key
     FROM unnest($2::uuid[], $3::bytea[], $4::bytea[]) AS i (device_id, public_key, private_key)
    WHERE d.tenant_id = $1 AND d.device_id = i.device_id AND d.removed_at IS NULL`,
);

/** Gives devices that the actor has just read new keys, and lets go of the old ones. Throws conflict. */
export async function replaceKeys(
  { actor, client }: Acting,
  devices: readonly { deviceId: DeviceId; publicKey: Buffer; privateKey: Buffer | null }[],
): Promise<void> {
  const ids = devices.map((device) => device.deviceId);
  const publicKeys = devices.map((device) => device.publicKey);
  await run(client, forgetKeys, [ids]);
  await run(client, claimMany, [publicKeys, ids]);
  await run(client, setKeys, [actor.tenantId, ids, publicKeys, devices.map((device) => device.privateKey)]);
}

const selectOne = statement<Device>(
  'device.get',
  `SELECT device_id AS "deviceId", name, encode(public_key, 'base64') AS "publicKey",
          private_key IS NOT NULL AS "hasPrivateKey", created_at AS "createdAt"
     FROM device WHERE tenant_id = $1 AND device_id = $2 AND subscription_id = $3 AND removed_at IS NULL`,
);

/** Throws not_found. */
export async function getDevice(
  { actor, client }: Acting,
  deviceId: DeviceId,
  subscriptionId: SubscriptionId,
): Promise<Device> {
  const [row] = await run(client, selectOne, [actor.tenantId, deviceId, subscriptionId]);
  if (row === undefined) throw new AppError('not_found', 'there is no such device');
  return row;
}

const renameRow = statement(
  'device.rename',
  'UPDATE device SET name = $3 WHERE tenant_id = $1 AND device_id = $2',
);

export async function renameDevice(
  { actor, client }: Acting,
  deviceId: DeviceId,
  name: string,
): Promise<void> {
  await run(client, renameRow, [actor.tenantId, deviceId, name]);
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
