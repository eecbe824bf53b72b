// LISTEN on a connection of its own. A notification is a nudge: after every (re)connect each channel is reported once,
// since something may have been missed, and the sweep of the caller makes it certain.
import type pg from 'pg';
import { createClient } from './pool.js';
import type { Logger } from '@penstock/service/logger';

const RECONNECT_MIN_MS = 100;
const RECONNECT_MAX_MS = 5_000;

export interface Listener {
  close(): Promise<void>;
}

export function listen(
  url: string,
  channels: readonly string[],
  onNotify: (channel: string, payload: string) => void,
  log: Logger,
): Listener {
  let closed = false;
  let client: pg.Client | undefined;
  let timer: NodeJS.Timeout | undefined;
  let delayMs = RECONNECT_MIN_MS;

  const again = (): void => {
    client = undefined;
    if (closed || timer !== undefined) return;
    timer = setTimeout(
      () => {
        timer = undefined;
        void connect();
      },
      delayMs * (0.5 + Math.random() / 2),
    );
    delayMs = Math.min(delayMs * 2, RECONNECT_MAX_MS);
  };

  const connect = async (): Promise<void> => {
    const next = createClient(url, 'penstock-listen');
    next.on('error', (error) => {
      log.warn({ error }, 'listen connection lost');
    });
    next.on('end', again);
    next.on('notification', (message) => onNotify(message.channel, message.payload ?? ''));
    try {
      await next.connect();
      for (const channel of channels) await next.query(`LISTEN ${next.escapeIdentifier(channel)}`);
      if (closed) return void (await next.end());
      client = next;
      delayMs = RECONNECT_MIN_MS;
      for (const channel of channels) onNotify(channel, '');
    } catch (error) {
      log.warn({ error }, 'listen connection failed');
      await next.end().catch(() => undefined);
      again();
    }
  };
  void connect();

  return {
    async close() {
      closed = true;
      clearTimeout(timer);
      await client?.end().catch(() => undefined);
    },
  };
}
