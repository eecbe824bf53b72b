import { z } from 'zod';
import { engines } from '@penstock/domain/terms';
import { idText } from '../http/fields.js';

const vless = z.strictObject({
  tag: z.string(),
  uri: z.string(),
});

const wireguard = z.strictObject({
  deviceId: idText,
  deviceName: z.string(),
  tag: z.string(),
  /** Text of a .conf file. Without a PrivateKey line when the key is the customer's own. */
  conf: z.string(),
});

export const access = z.strictObject({
  items: z.array(
    z.strictObject({
      nodeId: idText,
      nodeName: z.string(),
      address: z.string(),
      vless: z.array(vless),
      wireguard: z.array(wireguard),
    }),
  ),
  missingEngines: z.array(z.enum(engines)).meta({
    description:
      'Engines of the subscription that no node of its groups offers now: there is nothing to show.',
  }),
});
