import { z } from 'zod';
import { EVENT_ID } from './position.js';

export const eventQuery = z.strictObject({
  after: z
    .string()
    .max(60)
    .regex(EVENT_ID, 'must be the id of an event')
    .optional()
    .meta({ description: 'The same as the header Last-Event-ID, for clients that cannot set one.' }),
});
export type EventQuery = z.output<typeof eventQuery>;
