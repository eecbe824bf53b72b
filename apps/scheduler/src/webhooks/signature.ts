// How a receiver knows that a delivery is ours and fresh: HMAC-SHA256 over `time.id.body` with the webhook's secret, time
// and delivery id beside it. While a secret is being rotated both sign. A receiver refuses what is older than five
// minutes. The scheme is that of Standard Webhooks (https://www.standardwebhooks.com).
import { createHmac } from 'node:crypto';

/** Headers of one delivery. `secrets`: the current one first. */
export function signedHeaders(
  secrets: readonly string[],
  deliveryId: string,
  nowMs: number,
  body: string,
): Record<string, string> {
  const seconds = String(Math.floor(nowMs / 1000));
  const sign = (secret: string): string =>
    `v1,${createHmac('sha256', secret).update(`${deliveryId}.${seconds}.${body}`).digest('base64')}`;
  return {
    'content-type': 'application/json',
    'user-agent': 'Penstock-Webhook/1',
    'webhook-id': deliveryId,
    'webhook-timestamp': seconds,
    'webhook-signature': secrets.map(sign).join(' '),
  };
}
