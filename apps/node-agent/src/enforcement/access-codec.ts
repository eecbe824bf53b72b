// Access on the wire ↔ Access in the product. The encoded bytes are what both sides hash, so they are kept as they
// came and never encoded again here.
import {
  Access as WireAccess,
  type AccessEntry,
} from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import type { Access } from '@penstock/domain/access';
import { AppError } from '@penstock/domain/errors';
import { idFromBytes, type DeviceId, type SubscriptionId, type TenantId } from '@penstock/domain/ids';
import { accessDigest } from '@penstock/ledger/state-digest';

/** One entry of the desired state, as kept in memory and on disk. */
export interface DesiredEntry {
  access: Access;
  bytes: Buffer;
  digest: Buffer;
}

/** Decodes and checks an entry; throws invalid_input naming the field. */
export function decodeEntry(entry: AccessEntry): DesiredEntry {
  const bytes = Buffer.from(entry.access);
  const wire = WireAccess.decode(bytes);
  const subscriptionId = id<SubscriptionId>(wire.subscriptionId, 'access.subscription_id');
  if (Buffer.compare(wire.subscriptionId, entry.subscriptionId) !== 0) {
    throw new AppError('invalid_input', 'the entry names another subscription than its access', {
      field: 'entry.subscription_id',
    });
  }
  const access: Access = { tenantId: id<TenantId>(wire.tenantId, 'access.tenant_id'), subscriptionId };
  if (wire.xray !== undefined) {
    const { vlessId, flow } = wire.xray;
    if (flow !== '' && flow !== 'xtls-rprx-vision') {
      throw new AppError('invalid_input', 'unknown flow', { field: 'access.xray.flow' });
    }
    access.xray = { vlessId, flow };
  }
  if (wire.wireguard.length > 0) {
    access.wireguard = wire.wireguard.map((peer) => ({
      deviceId: id<DeviceId>(peer.deviceId, 'access.wireguard.device_id'),
      publicKey: key(peer.publicKey, 'access.wireguard.public_key'),
      presharedKey: key(peer.presharedKey, 'access.wireguard.preshared_key'),
      allowedIps: peer.allowedIps,
    }));
  }
  return { access, bytes, digest: accessDigest(wire.subscriptionId, bytes) };
}

function id<T extends string>(bytes: Uint8Array, field: string): T {
  if (bytes.length !== 16) throw new AppError('invalid_input', `${field} must have 16 bytes`, { field });
  return idFromBytes(Buffer.from(bytes)) as unknown as T;
}

function key(bytes: Uint8Array, field: string): string {
  if (bytes.length !== 32) throw new AppError('invalid_input', `${field} must have 32 bytes`, { field });
  return Buffer.from(bytes).toString('base64');
}
