import { z } from 'zod';
import { idText, timeText } from '../http/fields.js';

export const JOIN_TOKEN_MINUTES = { min: 10, max: 60, default: 30 } as const;

const { min, max, default: usual } = JOIN_TOKEN_MINUTES;

export const newJoinToken = z
  .strictObject({ ttlMinutes: z.number().int().min(min).max(max).default(usual) })
  .prefault({})
  .meta({ examples: [{ ttlMinutes: 30 }] });
export type NewJoinToken = z.output<typeof newJoinToken>;

/** Without the token itself, which was shown when it was made. */
export const listedJoinToken = z.strictObject({
  joinTokenId: idText,
  createdAt: timeText,
  expiresAt: timeText,
  /** When a node enrolled with it. */
  usedAt: timeText.nullable(),
  revokedAt: timeText.nullable(),
});
export const joinTokenList = z.strictObject({ items: z.array(listedJoinToken) });

export const joinToken = z.strictObject({
  joinTokenId: idText,
  nodeId: idText,
  /** Shown this once. */
  token: z.string(),
  expiresAt: timeText,
});
