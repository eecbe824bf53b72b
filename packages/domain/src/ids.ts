// Branded ids. All ids are UUIDv7 (time-ordered, so B-tree inserts stay at the right edge), made in the app.
import { v7, parse, validate } from 'uuid';
import { AppError } from './errors.js';

declare const brand: unique symbol;
export type Id<K extends string> = string & { readonly [brand]: K };

export type TenantId = Id<'tenant'>;
export type AccountId = Id<'account'>;
export type PlanId = Id<'plan'>;
export type SubscriptionId = Id<'subscription'>;
export type DeviceId = Id<'device'>;
export type NodeId = Id<'node'>;
export type NodeGroupId = Id<'node_group'>;
export type WebhookId = Id<'webhook'>;
export type DeliveryId = Id<'delivery'>;
/** An API key or a machine token. */
export type KeyId = Id<'key'>;

export const ZERO_ID = '00000000-0000-0000-0000-000000000000';

/** A new UUIDv7 of the wanted kind. */
export function newId<T extends Id<string>>(): T {
  return v7() as T;
}

/** Checks text from outside; throws invalid_input naming the field. Lower-cases, so equal ids are equal strings. */
export function parseId<T extends Id<string>>(value: unknown, field: string): T {
  if (typeof value !== 'string' || !validate(value)) {
    throw new AppError('invalid_input', `${field} must be a UUID`, { field });
  }
  return value.toLowerCase() as T;
}

/** The 16 bytes of an id, as they travel in frames. */
export function idBytes(id: string): Uint8Array {
  return parse(id);
}

/** An id from 16 bytes at `offset`; any 16 bytes are accepted (they are checked against assignments later). */
export function idFromBytes<T extends Id<string>>(bytes: Uint8Array, offset = 0): T {
  return hexToId(Buffer.from(bytes.buffer, bytes.byteOffset + offset, 16).toString('hex')) as T;
}

function hexToId(hex: string): string {
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}
