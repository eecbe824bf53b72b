import { z } from 'zod';
import { timeText } from '../http/fields.js';

export const session = z.strictObject({
  sessionId: z.guid(),
  ip: z.string().nullable().meta({ description: 'The address of the last refresh.' }),
  userAgent: z.string().nullable(),
  createdAt: timeText,
  lastSeenAt: timeText,
  expiresAt: timeText,
  current: z.boolean().meta({ description: 'The session that asks.' }),
});
export const sessionList = z.strictObject({ items: z.array(session) });

export const ended = z.strictObject({ ended: z.number().int() });
