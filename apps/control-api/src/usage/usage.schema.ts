import { z } from 'zod';
import { bytesText, idText, timeText } from '../http/fields.js';

export const usage = z.strictObject({
  subscriptionId: idText,
  /** null until the scheduler has opened the first period. */
  period: z.strictObject({ periodId: idText, startedAt: timeText, endsAt: timeText.nullable() }).nullable(),
  /** Raw: Xray counts inner payload, WireGuard encrypted payload with handshakes. */
  upBytes: bytesText,
  downBytes: bytesText,
  /** Raw times the node's multiplier. */
  billableBytes: bytesText,
  /** What a collector saw when it reported a crossing. */
  observedBytes: bytesText,
  /** What the quota is compared with: the greater of billable and observed. */
  usedBytes: bytesText,
  /** With what was added to this period; null: unlimited. */
  limitBytes: bytesText.nullable(),
  /** What was added to this period alone. */
  extraBytes: bytesText,
  updatedAt: timeText.nullable(),
});
