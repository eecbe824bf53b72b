import { z } from 'zod';
import { idText, timeText } from '../http/fields.js';

export const JOIN_TOKEN_MINUTES = { min: 10, max: 60, default: 30 } as const;

const { min, max, default: usual } = JOIN_TOKEN_MINUTES;

export const newJoinToken = z
  .strictObject({ ttlMinutes: z.number().int().min(min).max(max).default(usual) })
  .prefault({})
  .meta({ examples: [{ ttlMinutes: 30 }] });
export type NewJoinToken = z.output<typeof newJoinToken>;

export const joinToken = z.strictObject({
  joinTokenId: idText,
  nodeId: idText,
  /** Shown this once. */
  token: z.string(),
  expiresAt: timeText,
});
