import { z } from 'zod';
import { idText, timeText } from '../http/fields.js';

export const enforcement = z.strictObject({
  /** For people: "confirmed on 2 of 3 nodes". */
  state: z.string(),
  confirmed: z.number().int(),
  nodes: z.number().int(),
  /** From cause to the last confirmation, milliseconds; null while nothing is confirmed. */
  ms: z.number().int().nullable(),
  items: z.array(
    z.strictObject({
      nodeId: idText,
      kind: z.enum(['grant', 'cut']),
      cause: z.string(),
      state: z.enum(['ordered', 'confirmed', 'unproven', 'failed']),
      revision: z.string(),
      causedAt: timeText,
      orderedAt: timeText,
      acknowledgedAt: timeText.nullable(),
      /** The node's own time until nobody was connected, and until that was proven; microseconds. */
      cutUs: z.number().int().nullable(),
      provenUs: z.number().int().nullable(),
      sessionsEnded: z.number().int().nullable(),
      reason: z.string(),
    }),
  ),
});
