// Owns the way from "something may have changed who has access" to "these nodes owe a change": takes access_change
// rows, recomputes their subscriptions from state and leaves node_change rows, all in one transaction a batch. Called
// by NOTIFY (fast) and by the change sweep (certain). Invariant: a row is deleted only in the transaction that acted
// on it, so a process that dies forgets nothing.
import type { Pool } from '@penstock/db/pool';
import type { Runner } from '@penstock/db/statement';
import { withTransaction } from '@penstock/db/transaction';
import type { Clock } from '@penstock/domain/clock';
import { ZERO_ID, type NodeId, type SubscriptionId } from '@penstock/domain/ids';
import type { Logger } from '@penstock/service/logger';
import type { SchedulerMetrics } from '../metrics.js';
import { alignAddresses, writeAssignments } from '../placement/placement.store.js';
import {
  alignPeriods,
  findSubscriptionFacts,
  writeDecisions,
  type Keys,
  type NodeChangeWrite,
  type SubscriptionFacts,
} from '../quota/quota.store.js';
import { nextStep } from '../quota/lifecycle.js';
import { carryOut, leaveForLater, lockSubscriptions } from '../quota/lifecycle.store.js';
import { expandChanges, takeChanges, type AccessChange } from './change.store.js';
import { decide, evidenceOf, triggersOf, type Trigger } from './decide.js';

/** Rows a transaction takes at most: each holds a lock, and a crossing must not wait behind a long one. */
export const BATCH_ROWS_MAX = 500;
/** Steps of one life in one batch (a next plan of a day after a downtime of weeks); the rest follows in the next. */
export const LIFE_STEPS_MAX = 64;
/** Rows that fail alone are set aside for this long; so many of them at most. */
const SET_ASIDE_MS = 60_000;
const SET_ASIDE_MAX = 1_000;

export interface ConsumerDeps {
  pool: Pool;
  clock: Clock;
  log: Logger;
  metrics: SchedulerMetrics;
  /** True when this process holds the node's stream: it is poked in memory, others by NOTIFY. */
  isHeld: (nodeId: NodeId) => boolean;
  poke: (nodeId: NodeId) => void;
}

interface Batch {
  taken: number;
  touched: Set<NodeId>;
  becameLimited: number;
  withoutAddress: number;
}

export class ChangeConsumer {
  private wanted = false;
  private running: Promise<void> | null = null;
  private closed = false;
  private failing = false;
  private readonly setAside = new Map<string, number>();

  constructor(private readonly deps: ConsumerDeps) {}

  /** Something may wait. Cheap, returns at once; a poke while a pass runs makes it go on. */
  poke(): void {
    this.wanted = true;
    if (this.running !== null || this.closed) return;
    this.running = this.work().finally(() => {
      this.running = null;
      if (this.wanted && !this.closed) this.poke();
    });
  }

  /** Resolves when nothing runs any more; later pokes do nothing. */
  async close(): Promise<void> {
    this.closed = true;
    await this.running;
  }

  private async work(): Promise<void> {
    while (this.wanted && !this.closed) {
      this.wanted = false;
      try {
        // Less than a full batch means the table was empty but for what others hold.
        while ((await this.consume(BATCH_ROWS_MAX)) === BATCH_ROWS_MAX && !this.closed);
        this.failing = false;
      } catch (error) {
        // The rows are still there; the sweep tries again.
        if (!this.failing) this.deps.log.error({ error }, 'access changes were not taken');
        this.failing = true;
        return;
      }
    }
  }

  /** Takes and acts on at most `max` rows; returns how many. A batch that fails is tried row by row. */
  private async consume(max: number): Promise<number> {
    const started = this.deps.clock.monotonic();
    try {
      const batch = await withTransaction(this.deps.pool, async (db) => {
        const changes = await takeChanges(db, max, this.aside());
        return changes.length === 0 ? emptyBatch() : this.act(db, changes);
      });
      this.finish(batch, started);
      return batch.taken;
    } catch (error) {
      if (isTransient(error)) throw error;
      if (max > 1) return await this.consumeSingly(max);
      throw error;
    }
  }

  private async consumeSingly(max: number): Promise<number> {
    for (let n = 0; n < max; n++) {
      let changeId = '';
      try {
        const batch = await withTransaction(this.deps.pool, async (db) => {
          const changes = await takeChanges(db, 1, this.aside());
          changeId = changes[0]?.changeId ?? '';
          return changes.length === 0 ? emptyBatch() : this.act(db, changes);
        });
        this.finish(batch, this.deps.clock.monotonic());
        if (batch.taken === 0) return n;
      } catch (error) {
        if (isTransient(error) || changeId === '' || this.setAside.size >= SET_ASIDE_MAX) throw error;
        this.setAside.set(changeId, this.deps.clock.monotonic() + SET_ASIDE_MS);
        this.deps.metrics.changesSetAside.inc({});
        this.deps.log.error({ error }, 'an access change cannot be acted on; set aside');
      }
    }
    return max;
  }

  private async act(db: Runner, changes: AccessChange[]): Promise<Batch> {
    const wide = changes.filter((change) => change.subscriptionId === null);
    if (wide.length > 0) await expandChanges(db, wide);
    const triggers = triggersOf(changes);
    const keys = keysOf(changes);
    const facts = await this.live(db, keys, triggers);
    const outcome = decide(facts, triggers);
    if (outcome.begin.length + outcome.end.length > 0) await writeAssignments(db, outcome.begin, outcome.end);
    const withoutAddress =
      outcome.addresses.length === 0 ? 0 : await alignAddresses(db, keysOf(outcome.addresses));
    const nodeChanges = [...outcome.changes, ...configChanges(wide)];
    const touched = new Set(nodeChanges.map((change) => change.nodeId));
    const elsewhere = [...touched].filter((nodeId) => !this.deps.isHeld(nodeId));
    await writeDecisions(db, outcome.states, outcome.observed, nodeChanges, elsewhere);
    return { taken: changes.length, touched, becameLimited: outcome.becameLimited, withoutAddress };
  }

  /** Opens periods and carries out what is due in these lives; the facts as they stand afterwards. */
  private async live(
    db: Runner,
    keys: Keys,
    triggers: ReadonlyMap<SubscriptionId, Trigger>,
  ): Promise<SubscriptionFacts[]> {
    let facts = await findSubscriptionFacts(db, keys);
    let locked = false;
    for (let round = 0; ; round++) {
      const due = facts.filter((one) => one.periodDue);
      const at = due[0]?.at;
      if (at !== undefined) {
        await alignPeriods(db, keysOf(due), at);
        facts = await findSubscriptionFacts(db, keys);
      }
      const steps = facts.flatMap(
        (one) => nextStep(one, evidenceOf(one, triggers.get(one.subscriptionId))) ?? [],
      );
      if (steps.length === 0) return facts;
      if (round >= LIFE_STEPS_MAX) {
        await leaveForLater(db, steps);
        return facts;
      }
      // Once the rows are locked the facts are read again: an edit may have come between.
      if (locked) await carryOut(db, steps, facts[0]?.at ?? new Date(0));
      else await lockSubscriptions(db, keys);
      locked = true;
      facts = await findSubscriptionFacts(db, keys);
    }
  }

  private finish(batch: Batch, started: number): void {
    const { metrics, clock, log } = this.deps;
    for (const nodeId of batch.touched) this.deps.poke(nodeId);
    if (batch.taken === 0) return;
    metrics.changesTaken.inc({}, batch.taken);
    if (batch.becameLimited > 0) metrics.quotaCrossings.inc({}, batch.becameLimited);
    metrics.decideSeconds.observe({}, (clock.monotonic() - started) / 1000);
    if (batch.withoutAddress > 0) {
      metrics.addressesExhausted.inc({}, batch.withoutAddress);
      log.warn({ count: batch.withoutAddress }, 'devices found no free address on a node');
    }
  }

  private aside(): string[] {
    const now = this.deps.clock.monotonic();
    for (const [id, until] of this.setAside) if (until <= now) this.setAside.delete(id);
    return [...this.setAside.keys()];
  }
}

/** A node's own change (an inbound, its state) is told to its stream as a change of the zero subscription. */
function configChanges(wide: readonly AccessChange[]): NodeChangeWrite[] {
  const changes = new Map<NodeId, NodeChangeWrite>();
  for (const { tenantId, nodeId, cause, createdAt } of wide) {
    if (nodeId === null) continue;
    changes.set(nodeId, {
      tenantId,
      nodeId,
      subscriptionId: ZERO_ID as SubscriptionId,
      cause,
      causedAt: createdAt,
    });
  }
  return [...changes.values()];
}

function keysOf(
  rows: readonly { tenantId: Keys['tenantIds'][number]; subscriptionId: SubscriptionId | null }[],
): Keys {
  const seen = new Map<SubscriptionId, Keys['tenantIds'][number]>();
  for (const row of rows) if (row.subscriptionId !== null) seen.set(row.subscriptionId, row.tenantId);
  return { tenantIds: [...seen.values()], subscriptionIds: [...seen.keys()] };
}

function emptyBatch(): Batch {
  return { taken: 0, touched: new Set(), becameLimited: 0, withoutAddress: 0 };
}

function isTransient(error: unknown): boolean {
  return (error as { code?: unknown } | null)?.code === 'unavailable';
}
