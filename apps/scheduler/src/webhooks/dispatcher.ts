// Tells tenants' servers of events. Any number of schedulers may run it: events become deliveries under one lock, an
// attempt is claimed by one process, and a claim that its process did not live to report runs out. Nothing here is
// waited for by anything else (requirements R3-02).
import type { Pool } from '@penstock/db/pool';
import { withTransaction } from '@penstock/db/transaction';
import type { Clock } from '@penstock/domain/clock';
import type { Logger } from '@penstock/service/logger';
import { openSecret } from '@penstock/service/secret-box';
import type { SchedulerMetrics } from '../metrics.js';
import type { CallResult, Egress } from './egress.js';
import {
  claimDeliveries,
  fanOut,
  recordOutcome,
  removeDeliveries,
  waitingSeconds,
  type DueDelivery,
  type Outcome,
} from './outbox.store.js';
import { FAILURES_MAX, nextAttemptMs } from './retry.js';
import { signedHeaders } from './signature.js';

const SWEEP_MS = 2_000;
/** Between two looks, however many events are told. */
const GAP_MS = 100;
const EVENTS_A_BATCH = 1_000;
const CALLS_MAX = 32;
const CALLS_A_WEBHOOK_MAX = 4;
const CALLS_A_TENANT_MAX = 8;
/** Events that wait longer for somebody's transaction are told of. */
const WAITING_SECONDS_MAX = 5;
const KEPT_MS = 14 * 86_400_000;
const REMOVE_EVERY_MS = 600_000;
const REMOVED_AT_ONCE = 5_000;

export interface DispatcherDeps {
  pool: Pool;
  clock: Clock;
  log: Logger;
  metrics: SchedulerMetrics;
  dataKey: Buffer;
  egress: Egress;
  random: () => number;
}

export class WebhookDispatcher {
  #timer: NodeJS.Timeout | undefined;
  #next: NodeJS.Timeout | undefined;
  #turn: Promise<void> | null = null;
  #again = false;
  #removedMs = 0;
  #closed = false;
  #failing = false;
  #waits = false;
  readonly #calls = new Map<Promise<void>, DueDelivery>();

  constructor(private readonly deps: DispatcherDeps) {}

  start(): void {
    this.#timer = setInterval(() => this.poke(), SWEEP_MS);
    this.#timer.unref();
    this.poke();
  }

  /** Looks for something to do now; one look at a time, one more may wait. */
  poke(): void {
    if (this.#closed) return;
    this.#again = true;
    if (this.#turn !== null || this.#next !== undefined) return;
    this.#turn = this.#run().finally(() => {
      this.#turn = null;
      this.#next = setTimeout(() => {
        this.#next = undefined;
        if (this.#again) this.poke();
      }, GAP_MS);
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    clearTimeout(this.#next);
    await this.#turn;
    await Promise.all(this.#calls.keys());
  }

  async #run(): Promise<void> {
    this.#again = false;
    try {
      await this.#fanOut();
      await this.#startCalls();
      await this.#removeOld();
      await this.#lookAtWaiting();
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) this.deps.log.warn({ error }, 'webhooks wait');
      this.#failing = true;
    }
  }

  async #removeOld(): Promise<void> {
    const { pool, clock } = this.deps;
    const nowMs = clock.monotonic();
    if (this.#removedMs !== 0 && nowMs - this.#removedMs < REMOVE_EVERY_MS) return;
    this.#removedMs = nowMs;
    const before = new Date(clock.now() - KEPT_MS);
    await withTransaction(pool, (db) => removeDeliveries(db, before, REMOVED_AT_ONCE));
  }

  async #lookAtWaiting(): Promise<void> {
    const { pool, log, metrics } = this.deps;
    const seconds = await withTransaction(pool, (db) => waitingSeconds(db));
    metrics.eventsWaiting.set({}, seconds);
    const waits = seconds > WAITING_SECONDS_MAX;
    if (waits && !this.#waits) {
      log.warn({ seconds: Math.round(seconds) }, 'events wait for a transaction that does not end');
    }
    this.#waits = waits;
  }

  async #fanOut(): Promise<void> {
    const { pool, clock } = this.deps;
    for (let full = true; full && !this.#closed;) {
      ({ full } = await withTransaction(pool, (db) => fanOut(db, new Date(clock.now()), EVENTS_A_BATCH)));
    }
  }

  async #startCalls(): Promise<void> {
    const { pool, clock } = this.deps;
    const free = CALLS_MAX - this.#calls.size;
    if (free <= 0) return;
    const at = new Date(clock.now());
    const due = await withTransaction(pool, (db) =>
      claimDeliveries(db, at, {
        ...{ calls: free, callsAWebhook: CALLS_A_WEBHOOK_MAX, callsATenant: CALLS_A_TENANT_MAX },
        busyTenants: this.#busy('tenantId', CALLS_A_TENANT_MAX / 2),
        busyWebhooks: this.#busy('webhookId', CALLS_A_WEBHOOK_MAX),
      }),
    );
    for (const delivery of due) {
      const call: Promise<void> = this.#deliver(delivery).finally(() => {
        this.#calls.delete(call);
        this.poke();
      });
      this.#calls.set(call, delivery);
    }
  }

  /** Tenants or webhooks that have `atLeast` calls under way here. */
  #busy(of: 'tenantId' | 'webhookId', atLeast: number): string[] {
    const counts = new Map<string, number>();
    for (const delivery of this.#calls.values())
      counts.set(delivery[of], (counts.get(delivery[of]) ?? 0) + 1);
    return [...counts].filter(([, count]) => count >= atLeast).map(([id]) => id);
  }

  async #deliver(delivery: DueDelivery): Promise<void> {
    const { pool, clock, log, metrics } = this.deps;
    try {
      const result = await this.#call(delivery);
      const at = new Date(clock.now());
      const outcome = this.#judge(result, delivery.attempts, at);
      metrics.webhookDeliveries.inc({
        result: result.ok ? 'ok' : outcome.state === 'failed' ? 'failed' : 'retry',
      });
      await withTransaction(pool, (db) => recordOutcome(db, delivery, outcome, at, FAILURES_MAX));
    } catch (error) {
      // The claim runs out and the delivery is tried again.
      log.warn({ error }, 'a webhook delivery could not be recorded');
    }
  }

  #call({ tenantId, webhookId, deliveryId, body, ...sealed }: DueDelivery): Promise<CallResult> {
    const { dataKey, clock, egress } = this.deps;
    const open = (table: string, bytes: Buffer): string =>
      openSecret(dataKey, bytes, { table, tenant: tenantId, row: webhookId }).toString();
    const url = new URL(open('webhook_url', sealed.url));
    const secrets = [sealed.secret, sealed.oldSecret].filter((bytes) => bytes !== null);
    const text = JSON.stringify({ ...(body as object), deliveryId });
    const headers = signedHeaders(
      secrets.map((bytes) => open('webhook', bytes)),
      ...([deliveryId, clock.now(), text] as const),
    );
    return egress.post(url, headers, text);
  }

  #judge(result: CallResult, attempts: number, at: Date): Outcome {
    if (result.ok) return { state: 'delivered', nextAt: at, httpStatus: result.status, error: null };
    const ms = nextAttemptMs(attempts, this.deps.random());
    return {
      state: ms === null ? 'failed' : 'pending',
      nextAt: new Date(at.getTime() + (ms ?? 0)),
      httpStatus: result.status,
      error: result.error,
    };
  }
}
