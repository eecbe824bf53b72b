import { z } from 'zod';
import { isWireguardKey } from '@penstock/domain/wireguard-keys';
import { idText, name, timeText } from '../http/fields.js';

const publicKey = z
  .string()
  .refine(isWireguardKey, 'must be a WireGuard public key: 32 bytes in base64, 44 characters')
  .optional()
  .meta({ description: "The customer's own key; left out, we make a pair and keep the private key sealed" });

export const newDevice = z.strictObject({ name, publicKey }).meta({ examples: [{ name: 'phone' }] });
export type NewDevice = z.output<typeof newDevice>;

export const changedDevice = z.strictObject({ name }).meta({ examples: [{ name: 'old phone' }] });
export type ChangedDevice = z.output<typeof changedDevice>;

export const rotatedDevice = z.strictObject({ publicKey }).meta({ examples: [{}] });
export type RotatedDevice = z.output<typeof rotatedDevice>;

export const device = z.strictObject({
  deviceId: idText,
  name: z.string(),
  publicKey: z.string(),
  /** Ours, so that a whole configuration can be given out. */
  hasPrivateKey: z.boolean(),
  createdAt: timeText,
});
export const deviceList = z.strictObject({ items: z.array(device) });
