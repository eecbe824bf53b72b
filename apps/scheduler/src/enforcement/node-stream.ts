// One node's Enforcement stream, as long as it lives: knows what the node has (subscription → digest), makes the next
// revision from what changed, sends it, and takes the proof. Invariants: one revision in flight; a revision is sent
// only after its commit; every write goes through the lease's fence. Everything runs in one loop (`work`), so steps
// never overlap. Made and fed by enforcement.rpc.ts, poked by streams.ts.
import type { Pool } from '@penstock/db/pool';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import { ZERO_ID, type NodeId } from '@penstock/domain/ids';
import { MESSAGE_BYTES_MAX } from '@penstock/domain/terms';
import type {
  Acknowledgement,
  Hello,
  SyncResponse,
} from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import type { Logger } from '@penstock/service/logger';
import type { CloseReason, SchedulerMetrics } from '../metrics.js';
import { keyOfId } from './access.js';
import { backoffMs, type BackoffRule } from './backoff.js';
import type { DesiredReader, NodeConfigState, WholeState } from './desired-reader.js';
import { findPendingChanges } from './desired.store.js';
import {
  findRevisionDigests,
  listOpenOrders,
  settleChanges,
  writeAcknowledgement,
  writeRevision,
} from './enforcement.store.js';
import { HeldEntries } from './held-entries.js';
import { int4, line } from './incoming.js';
import {
  judge,
  planBytes,
  planDelta,
  planReturn,
  splitEntries,
  type OpenOrder,
  type RevisionPlan,
} from './plan.js';

/** Changes that one delta takes at most; the rest goes with the next. */
const PENDING_ROWS_MAX = 2_000;
/** Entries in one message, with room left for its frame. */
export const ENTRIES_BYTES_MAX = MESSAGE_BYTES_MAX - 64 * 1024;
const ACKNOWLEDGEMENTS_QUEUED_MAX = 4;
/** After a fault of the database. */
const FAULT_RETRY: BackoffRule = { firstMs: 250, maxMs: 10_000 };
/** A node that could not apply a revision gets a snapshot: soon at first, rarer while it goes on failing. */
const REPAIR: BackoffRule = { firstMs: 250, maxMs: 30_000 };
/** While a change waits, a failing node is tried again at least this often. */
const REPAIR_WAITING_MS = 1_000;

export interface StreamRules {
  resend: BackoffRule;
  /** A cut without proof is ordered again. */
  reorder: BackoffRule;
}

export const STREAM_RULES: StreamRules = {
  resend: { firstMs: 5_000, maxMs: 60_000 },
  reorder: { firstMs: 1_000, maxMs: 60_000 },
};

export interface NodeStreamDeps {
  pool: Pool;
  reader: DesiredReader;
  clock: Clock;
  log: Logger;
  metrics: SchedulerMetrics;
  rules: StreamRules;
  random: () => number;
}

export interface NodeStreamLink {
  nodeId: NodeId;
  fence: bigint;
  write(message: SyncResponse): Promise<void>;
  /** The call ended, whoever ended it: a write that fails then is no fault. */
  isOver(): boolean;
  /** Ends the call with this error. */
  end(error: AppError): void;
}

interface InFlight {
  revision: bigint;
  digest: Buffer;
  messages: SyncResponse[];
  orders: Carried[];
  sentAt: Date;
  sentMs: number;
  attempts: number;
  resendAt: number;
}

/** An order and how often it was sent without proof. */
interface Carried extends OpenOrder {
  attempts: number;
}

interface Unproven extends Carried {
  dueAt: number;
}

export class NodeStream {
  readonly nodeId: NodeId;
  readonly fence: bigint;
  lastHeardMs: number;
  /** Since when a write waits for the node to read; null when none does. */
  writingSinceMs: number | null = null;

  private entries = new HeldEntries();
  private own: NodeConfigState | null = null;
  private acknowledged = 0n;
  private inFlight: InFlight | null = null;
  private readonly unproven = new Map<string, Unproven>();
  private readonly acknowledgements: Acknowledgement[] = [];
  /** What the agent said it has; handled once, before anything else. */
  private hello: Hello | null;
  private dirty = true;
  private failures = 0;
  /** When the next snapshot goes out, because what the node has is not what was asked for. */
  private repairAt: number | null = null;
  /** The node did not take the last revision: nothing but a snapshot can follow. */
  private refused = false;
  private faults = 0;
  private pauseUntil = 0;
  private working = false;
  /** Asked to look once more while `work` runs. */
  private again = false;
  private closed = false;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly deps: NodeStreamDeps,
    private readonly link: NodeStreamLink,
    hello: Hello,
  ) {
    this.nodeId = link.nodeId;
    this.fence = link.fence;
    this.hello = hello;
    this.acknowledged = hello.appliedRevision;
    this.lastHeardMs = deps.clock.monotonic();
  }

  /** Starts the stream; resolves when what the node has was compared and the first order, if any, was sent. */
  async open(): Promise<void> {
    await this.work();
  }

  /** Something of this node changed, or the time to look has come. */
  poke(): void {
    this.dirty = true;
    if (this.repairAt !== null && this.refused)
      this.repairAt = Math.min(this.repairAt, this.deps.clock.monotonic() + REPAIR_WAITING_MS);
    void this.work();
  }

  /** Takes an acknowledgement; one of another revision than the one in flight says nothing new and is dropped. */
  acknowledge(ack: Acknowledgement): void {
    if (this.inFlight === null || ack.revision !== this.inFlight.revision) return;
    if (this.acknowledgements.length >= ACKNOWLEDGEMENTS_QUEUED_MAX) return;
    this.acknowledgements.push(ack);
    void this.work();
  }

  /** Ends the stream; nothing is written after it. */
  close(reason: CloseReason, error: AppError): void {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.timer);
    this.deps.metrics.streamsClosed.inc({ reason });
    this.link.end(error);
  }

  private get profile(): NodeConfigState {
    if (this.own === null) throw new Error('the node was not read yet');
    return this.own;
  }

  private async work(): Promise<void> {
    this.again = true;
    if (this.working) return;
    this.working = true;
    try {
      while (this.again && !this.closed) {
        this.again = false;
        while (!this.closed && (await this.step())) this.faults = 0;
      }
    } catch (error) {
      if (!this.closed) this.fault(error);
    } finally {
      this.working = false;
      this.arm();
    }
  }

  /** Does the most urgent thing; false when there is nothing to do now. */
  private async step(): Promise<boolean> {
    const now = this.deps.clock.monotonic();
    if (now < this.pauseUntil) return false;
    if (this.hello !== null) {
      await this.comeBack(this.hello);
      this.hello = null;
      return true;
    }
    const [ack] = this.acknowledgements;
    if (ack !== undefined) {
      await this.takeAcknowledgement(ack);
      this.acknowledgements.shift();
      return true;
    }
    if (this.inFlight !== null) {
      if (now < this.inFlight.resendAt) return false;
      await this.resend(this.inFlight);
      return true;
    }
    if (this.repairAt !== null && now >= this.repairAt) {
      await this.sendSnapshot();
      return true;
    }
    if (this.refused) return false;
    const due = [...this.unproven.values()].filter((order) => order.dueAt <= now);
    if (!this.dirty && due.length === 0) return false;
    await this.sendDelta(due);
    return true;
  }

  private fault(error: unknown): void {
    if (this.link.isOver()) return;
    this.faults++;
    if (this.faults === 1)
      this.deps.log.warn({ error, nodeId: this.nodeId }, 'enforcement of a node is held up');
    this.pauseUntil = this.deps.clock.monotonic() + backoffMs(FAULT_RETRY, this.faults, this.deps.random());
    this.dirty = true;
  }

  /** First step: what the agent has against what it should have; nothing, a delta or a snapshot follows. */
  private async comeBack(hello: Hello): Promise<void> {
    const { pool, reader } = this.deps;
    this.dirty = false;
    let open = await listOpenOrders(pool, this.nodeId);
    const asked = await findRevisionDigests(pool, this.nodeId, [
      hello.appliedRevision,
      ...hello.pending.map((ack) => ack.revision),
    ]);
    for (const ack of hello.pending) {
      const orders = open.filter((order) => order.revision === ack.revision);
      const applied = ack.errorCode === '' && asked.get(ack.revision)?.equals(ack.digest) === true;
      if (!asked.has(ack.revision)) continue;
      const proven = await this.storeProof(ack, orders, applied, null);
      open = open.filter((order) => !proven.has(order));
    }
    const whole = await reader.readWhole(this.nodeId, this.fence);
    if (whole === null) return this.fenced();
    const { desired, pending, ownChanges } = whole;
    const digest = this.take(whole);
    const { config } = whole.own;
    const known = hello.appliedRevision > 0n;
    if (known && open.length === 0 && digest.equals(hello.appliedDigest)) {
      const settled = [...pending, ...ownChanges];
      if (settled.length > 0 && !(await settleChanges(pool, this.nodeId, this.fence, settled)))
        return this.fenced();
      return;
    }
    const plan = planReturn(desired, pending, open);
    plan.settled.push(...ownChanges);
    const provable = known && asked.get(hello.appliedRevision)?.equals(hello.appliedDigest) === true;
    const bytes = planBytes(plan) + config.length;
    const delta = provable && plan.digests.size > 0 && bytes <= ENTRIES_BYTES_MAX;
    await this.issue(plan, digest, hello.appliedRevision, (revision) =>
      delta
        ? [this.deltaMessage(plan, revision, digest, config)]
        : this.snapshotMessages(desired, revision, digest),
    );
    this.deps.metrics.messages.inc({ kind: delta ? 'delta' : 'snapshot' });
  }

  /** The whole state, after a proof that failed. */
  private async sendSnapshot(): Promise<void> {
    this.dirty = false;
    const whole = await this.deps.reader.readWhole(this.nodeId, this.fence);
    if (whole === null) return this.fenced();
    const { desired, pending, ownChanges } = whole;
    const digest = this.take(whole);
    const plan = planReturn(desired, pending, [...this.unproven.values()]);
    plan.settled.push(...ownChanges);
    this.repairAt = null;
    this.refused = false;
    await this.issue(plan, digest, this.acknowledged, (revision) =>
      this.snapshotMessages(desired, revision, digest),
    );
    this.deps.metrics.messages.inc({ kind: 'snapshot' });
  }

  /** Makes the state as it was read the one that the node is to have; returns its digest. */
  private take({ own, entries }: WholeState): Buffer {
    this.own = own;
    this.entries = entries;
    return entries.digest(own.config);
  }

  private async sendDelta(due: Unproven[]): Promise<void> {
    const { pool, reader } = this.deps;
    this.dirty = false;
    const rows = await findPendingChanges(pool, this.nodeId, this.fence, PENDING_ROWS_MAX);
    if (rows === null) return this.fenced();
    if (rows.length === PENDING_ROWS_MAX) this.dirty = true;
    const ownChanges = rows.filter((row) => row.subscriptionId === ZERO_ID);
    const before = this.profile;
    const own = ownChanges.length > 0 ? await reader.readConfig(this.nodeId) : before;
    const { profile, config } = own;
    if (JSON.stringify(profile) !== JSON.stringify(before.profile)) {
      // Other engines on the node: everybody's access is another one.
      this.repairAt = 0;
      return;
    }
    const configChanged = !config.equals(before.config);
    const pending = rows
      .filter((row) => row.subscriptionId !== ZERO_ID)
      .map((row) => reader.pendingOf(profile, row));
    const again = due.length === 0 ? [] : await reader.readAgain(profile, due);
    const plan = planDelta(
      this.entries,
      pending,
      again,
      [...this.unproven.values()],
      ENTRIES_BYTES_MAX - config.length,
    );
    if (plan.settled.length < pending.length) this.dirty = true;
    for (const row of ownChanges) plan.settled.push({ ...row, access: null });
    for (const order of due) this.postpone(order);
    if (plan.digests.size === 0 && !configChanged) {
      if (plan.settled.length > 0 && !(await settleChanges(pool, this.nodeId, this.fence, plan.settled)))
        this.fenced();
      return;
    }
    for (const [key, digest] of plan.digests) {
      if (digest === null) this.entries.delete(key);
      else this.entries.set(key, digest);
    }
    this.own = own;
    const digest = this.entries.digest(config);
    await this.issue(plan, digest, this.acknowledged, (revision) => [
      this.deltaMessage(plan, revision, digest, configChanged ? config : Buffer.alloc(0)),
    ]);
    this.deps.metrics.messages.inc({ kind: 'delta' });
    const now = this.deps.clock.now();
    for (const { causedAt } of plan.orders) {
      this.deps.metrics.orderSeconds.observe({}, Math.max(0, now - causedAt.getTime()) / 1000);
    }
  }

  /** Commits the revision, then sends it. A commit whose outcome is unknown ends the stream: the next one reads again. */
  private async issue(
    plan: RevisionPlan,
    digest: Buffer,
    above: bigint,
    messagesOf: (revision: bigint) => SyncResponse[],
  ): Promise<void> {
    const { pool, clock } = this.deps;
    let revision: bigint | null;
    try {
      const { nodeId, fence } = this;
      const counts = { upserts: plan.upserts.length, removals: plan.removals.length };
      revision = await writeRevision(pool, { nodeId, fence, above, digest, plan, ...counts });
    } catch (error) {
      this.deps.log.warn({ error, nodeId: this.nodeId }, 'a revision was not written; the stream ends');
      return this.close(
        'fault',
        new AppError('unavailable', 'the revision could not be written', { retryAfterMs: 1_000 }),
      );
    }
    if (revision === null) return this.fenced();
    if (this.closed) return;
    const made = revision;
    const orders = [...plan.orders, ...plan.moved].map(({ tenantId, subscriptionId, kind }) => {
      const attempts = this.unproven.get(keyOfId(subscriptionId))?.attempts ?? 0;
      return { tenantId, subscriptionId, kind, revision: made, attempts };
    });
    for (const order of [...plan.moved, ...plan.superseded])
      this.unproven.delete(keyOfId(order.subscriptionId));
    const messages = messagesOf(revision);
    const sentMs = clock.monotonic();
    const resendAt = sentMs + backoffMs(this.deps.rules.resend, 1, this.deps.random());
    this.inFlight = {
      revision,
      digest,
      messages,
      orders,
      sentAt: new Date(clock.now()),
      sentMs,
      attempts: 1,
      resendAt,
    };
    await this.send(messages);
  }

  private async resend(inFlight: InFlight): Promise<void> {
    inFlight.attempts++;
    inFlight.resendAt =
      this.deps.clock.monotonic() + backoffMs(this.deps.rules.resend, inFlight.attempts, this.deps.random());
    this.deps.metrics.messages.inc({ kind: 'resend' });
    await this.send(inFlight.messages);
  }

  private async send(messages: readonly SyncResponse[]): Promise<void> {
    for (const message of messages) {
      this.writingSinceMs = this.deps.clock.monotonic();
      await this.link.write(message);
    }
    this.writingSinceMs = null;
  }

  private async takeAcknowledgement(ack: Acknowledgement): Promise<void> {
    const { inFlight } = this;
    if (inFlight === null || ack.revision !== inFlight.revision) return;
    const applied = ack.errorCode === '' && ack.digest.equals(inFlight.digest);
    const proven = await this.storeProof(ack, inFlight.orders, applied, inFlight.sentAt);
    if (this.closed) return;
    this.inFlight = null;
    this.deps.metrics.confirmSeconds.observe({}, (this.deps.clock.monotonic() - inFlight.sentMs) / 1000);
    for (const order of inFlight.orders) if (!proven.has(order)) this.postpone(order);
    if (applied) {
      this.acknowledged = ack.revision;
      this.failures = 0;
      this.repairAt = null;
      return;
    }
    // A node that took the revision holds it, whatever its engines make of it: the next delta builds on it, so one
    // entry that an engine cannot take delays nobody. One that did not take it needs a snapshot first.
    this.refused = ack.errorCode !== '';
    if (!this.refused) this.acknowledged = ack.revision;
    if (this.repairAt !== null) return;
    this.failures++;
    this.repairAt = this.deps.clock.monotonic() + backoffMs(REPAIR, this.failures, this.deps.random());
    const code = this.refused ? line(ack.errorCode, 40) : 'digest_mismatch';
    const { nodeId } = this;
    if (this.failures === 1)
      this.deps.log.warn({ nodeId, revision: ack.revision, code }, 'a node did not apply a revision');
  }

  /** Writes what an acknowledgement proves; returns the orders that are confirmed. */
  private async storeProof(
    ack: Acknowledgement,
    orders: OpenOrder[],
    applied: boolean,
    sentAt: Date | null,
  ): Promise<Set<OpenOrder>> {
    const errorCode = applied ? '' : ack.errorCode === '' ? 'digest_mismatch' : line(ack.errorCode, 40);
    const outcomes = judge(orders, ack.results, applied, ack.errorCode !== '', errorCode).map((outcome) => ({
      ...outcome,
      sessionsEnded: int4(outcome.sessionsEnded),
      cutUs: int4(outcome.cutUs),
      provenUs: int4(outcome.provenUs),
      reason: line(outcome.reason, 300),
    }));
    const held = await writeAcknowledgement(this.deps.pool, {
      nodeId: this.nodeId,
      fence: this.fence,
      revision: ack.revision,
      sentAt,
      appliedAt: new Date(Number(ack.appliedAtMs)),
      errorCode,
      errorMessage: line(ack.errorMessage, 500),
      outcomes,
    });
    if (!held) {
      this.fenced();
      return new Set();
    }
    for (const { order, state } of outcomes)
      this.deps.metrics.enforcements.inc({ kind: order.kind, outcome: state });
    return new Set(
      outcomes.filter((outcome) => outcome.state === 'confirmed').map((outcome) => outcome.order),
    );
  }

  private postpone(order: Carried): void {
    const attempts = order.attempts + 1;
    const dueAt =
      this.deps.clock.monotonic() + backoffMs(this.deps.rules.reorder, attempts, this.deps.random());
    this.unproven.set(keyOfId(order.subscriptionId), { ...order, attempts, dueAt });
  }

  private fenced(): void {
    this.close('fenced', new AppError('fenced', 'the node is served by a newer stream'));
  }

  private deltaMessage(plan: RevisionPlan, revision: bigint, digest: Buffer, config: Buffer): SyncResponse {
    const { upserts, removals } = plan;
    const value = { base: this.acknowledged, revision, fence: this.fence, config, upserts, removals, digest };
    return { message: { $case: 'delta', value } };
  }

  private snapshotMessages(
    desired: ReadonlyMap<string, Buffer>,
    revision: bigint,
    digest: Buffer,
  ): SyncResponse[] {
    const { config } = this.profile;
    const parts = splitEntries(desired, ENTRIES_BYTES_MAX - config.length);
    return parts.map((entries, n) => {
      const value = { revision, fence: this.fence, config, entries, digest, more: n < parts.length - 1 };
      return { message: { $case: 'snapshot', value } };
    });
  }

  private arm(): void {
    clearTimeout(this.timer);
    if (this.closed) return;
    const free = this.inFlight === null;
    const times = [
      this.inFlight?.resendAt,
      free ? this.repairAt : null,
      ...(free && !this.refused ? [...this.unproven.values()].map((order) => order.dueAt) : []),
    ].filter((at) => at !== null && at !== undefined);
    const soonest = Math.min(
      ...times,
      this.pauseUntil > this.deps.clock.monotonic() ? this.pauseUntil : Infinity,
    );
    if (!Number.isFinite(soonest)) return;
    const at = Math.max(soonest, this.pauseUntil);
    this.timer = setTimeout(() => void this.work(), Math.max(1, at - this.deps.clock.monotonic()));
    this.timer.unref();
  }
}
