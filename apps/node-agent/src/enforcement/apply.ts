// Takes a revision into force: written down, cut, granted, read back. Called by sync.ts, one revision at a time; the
// order is fixed here: durable → cut → grant → read back → results. An entry that an engine cannot take stays out and
// is told; it never delays anybody's cut or grant. A crash at any point goes
// on from the durable state at the next start.
import type { Access } from '@penstock/domain/access';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import { idFromBytes, type SubscriptionId } from '@penstock/domain/ids';
import type { Engine as EngineName } from '@penstock/domain/terms';
import {
  ChangeKind,
  type Acknowledgement,
  type ChangeResult,
  type Delta,
  type Snapshot,
} from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import type { Logger } from '@penstock/service/logger';
import type { CutResult, Engine, EngineState } from '../engines/engine.js';
import type { EngineHost } from '../engines/host.js';
import { decodeEntry, type DesiredEntry } from './access-codec.js';
import type { DesiredStore } from './desired.store.js';
import { engineSteps, readBackDigest } from './reconcile.js';

/** Acknowledgements kept, so that a revision that is sent again gets its true answer. */
const ACKNOWLEDGEMENTS_KEPT = 64;

export interface ApplyDeps {
  store: DesiredStore;
  engines: EngineHost;
  /** Reads all counters and journals them; awaited before any counter can vanish. */
  beforeRemoval: () => Promise<void>;
  /** An engine was ended on purpose: its next life is not taken for a death. */
  engineStopped: (name: EngineName) => Promise<void>;
  /** Somebody is no longer in the desired state; his late usage still needs his tenant. */
  onRemoved: (access: Access) => void;
  clock: Clock;
  log: Logger;
}

export class Enforcer {
  private readonly acknowledgements = new Map<bigint, Acknowledgement>();
  /** One revision at a time. */
  private busy: Promise<unknown> = Promise.resolve();
  /** Revision and digest that were read back from the engines; what Hello states. */
  applied: { revision: bigint; digest: Buffer } = { revision: 0n, digest: Buffer.alloc(0) };

  constructor(private readonly deps: ApplyDeps) {}

  /** At start: brings the engines to the durable state, finishes a cut that was interrupted, reads back. */
  async resume(): Promise<void> {
    const { store, engines } = this.deps;
    const { state } = store;
    if (state.revision === 0n) return;
    await engines.configure(state.config, this.endSessions);
    await engines.startAll(this.acceptable(state.entries.values()));
    const results = await this.cutAll(new Map(), [], state.lastRemovals);
    await this.acknowledge(state.revision, this.deps.clock.now(), results);
  }

  /** An engine came back from the dead or was installed: give it everybody again. */
  async restoreEngine(name: EngineName): Promise<void> {
    await this.exclusively(async () => {
      const engine = this.deps.engines.get(name);
      await engine?.start(this.acceptable(this.deps.store.state.entries.values()));
    });
  }

  /** Ends everybody's sessions before the engines are stopped; the desired state on disk stays as it is. */
  async quiesce(): Promise<void> {
    await this.exclusively(async () => {
      await Promise.all([...this.deps.engines.all().values()].map(this.endSessions));
    });
  }

  /** Before an engine is ended: nobody is connected any more, and the last byte is journalled. */
  private readonly endSessions = async (engine: Engine): Promise<void> => {
    const everybody = [...this.deps.store.state.entries.keys()];
    await engine.cut(everybody, this.deps.beforeRemoval).catch((error: unknown) => {
      this.deps.log.warn({ engine: engine.name, error }, 'sessions could not be ended before the engine');
    });
    await this.deps.beforeRemoval();
    await this.deps.engineStopped(engine.name);
  };

  applySnapshot(snapshot: Snapshot): Promise<Acknowledgement> {
    return this.exclusively(async () => {
      const receivedAt = this.deps.clock.now();
      const known = this.refuse(snapshot.revision, snapshot.fence, true);
      if (known !== null) return known;
      const wanted = new Map<SubscriptionId, DesiredEntry>();
      for (const wire of snapshot.entries) {
        const entry = decodeEntry(wire);
        wanted.set(entry.access.subscriptionId, entry);
      }
      const { store, engines } = this.deps;
      const before = new Map(store.state.entries);
      const configChanged = !Buffer.from(snapshot.config).equals(store.state.config);
      await engines.configure(Buffer.from(snapshot.config), this.endSessions);
      this.remember(before.values());
      await store.writeSnapshot(snapshot);
      const removals = [...before.keys()].filter((id) => !wanted.has(id));
      const changed = [...wanted.values()].filter(
        (entry) => before.get(entry.access.subscriptionId)?.digest.equals(entry.digest) !== true,
      );
      if (configChanged || before.size === 0) {
        await engines.startAll(this.acceptable(wanted.values()));
      }
      // The engines may hold somebody whom no state of ours knows: found by reading back, and cut.
      const strays = [...(await this.readBack()).values()].flatMap((state) =>
        [...state.admitted.keys()].filter((id) => !wanted.has(id) && !before.has(id)),
      );
      const results = await this.cutAll(before, changed, [...removals, ...new Set(strays)]);
      await this.grantAll(changed, results);
      await this.grantMissing(wanted);
      return this.acknowledge(snapshot.revision, receivedAt, results);
    });
  }

  applyDelta(delta: Delta): Promise<Acknowledgement> {
    return this.exclusively(async () => {
      const receivedAt = this.deps.clock.now();
      const known = this.refuse(delta.revision, delta.fence, false);
      if (known !== null) return known;
      const { store, engines } = this.deps;
      if (delta.base !== store.state.revision) {
        return this.failure(
          delta.revision,
          receivedAt,
          'failed_precondition',
          'the node does not hold the base revision',
        );
      }
      const upserts = delta.upserts.map(decodeEntry);
      const removals = delta.removals.map((bytes) => idFromBytes<SubscriptionId>(Buffer.from(bytes)));
      if (delta.config.length > 0) await engines.configure(Buffer.from(delta.config), this.endSessions);
      const before = new Map(store.state.entries);
      this.remember(removals.flatMap((id) => before.get(id) ?? []));
      await store.writeDelta(delta);
      if (delta.config.length > 0) {
        await engines.startAll(this.acceptable(store.state.entries.values()));
      }
      const results = await this.cutAll(before, upserts, removals);
      await this.grantAll(upserts, results);
      return this.acknowledge(delta.revision, receivedAt, results);
    });
  }

  /** Acknowledgement of a revision that cannot be taken; the state stays as it was. */
  failure(revision: bigint, receivedAt: number, code: string, message: string): Acknowledgement {
    return {
      revision,
      digest: this.applied.digest,
      receivedAtMs: BigInt(receivedAt),
      appliedAtMs: BigInt(this.deps.clock.now()),
      results: [],
      errorCode: code,
      errorMessage: message,
    };
  }

  /** Known acknowledgement of a revision that is not newer; null when it is to be applied. Throws on a lower fence. */
  private refuse(revision: bigint, fence: bigint, snapshot: boolean): Acknowledgement | null {
    const { state } = this.deps.store;
    if (fence < state.fence) throw new AppError('fenced', 'this scheduler was replaced by another');
    if (revision > state.revision || (snapshot && revision === state.revision)) return null;
    return (
      this.acknowledgements.get(revision) ??
      this.failure(state.revision, this.deps.clock.now(), 'conflict', 'the node holds a newer revision')
    );
  }

  private remember(entries: Iterable<DesiredEntry>): void {
    for (const entry of entries) this.deps.onRemoved(entry.access);
  }

  private async cutAll(
    before: ReadonlyMap<SubscriptionId, DesiredEntry>,
    upserts: readonly DesiredEntry[],
    removals: readonly SubscriptionId[],
  ): Promise<ChangeResult[]> {
    const results: ChangeResult[] = [];
    // Engines that ask at the same time share one reading.
    let reading: Promise<void> | undefined;
    const readOnce = (): Promise<void> =>
      (reading ??= this.deps.beforeRemoval().finally(() => {
        reading = undefined;
      }));
    await Promise.all(
      [...this.deps.engines.all()].map(async ([name, engine]) => {
        // Who cannot be given what was ordered does not keep what he had.
        const refused = upserts
          .filter(({ access }) => this.isRefused(access))
          .map(({ access }) => access.subscriptionId);
        const { cut } = engineSteps(name, before, upserts, [
          ...removals,
          ...refused.filter((id) => before.has(id)),
        ]);
        if (cut.length === 0) return;
        const ended = await engine.cut(cut, readOnce).catch((error: unknown) => {
          this.deps.log.error({ engine: name, error }, 'cut failed');
          return new Map<SubscriptionId, CutResult>();
        });
        for (const id of cut) results.push(cutResult(name, id, ended.get(id)));
      }),
    );
    // A subscription that no engine here served is ended by definition.
    for (const id of removals) {
      if (!results.some((result) => Buffer.from(result.subscriptionId).equals(idHex(id)))) {
        results.push(cutResult('', id, { ended: true, sessionsEnded: 0, cutMs: 0, provenMs: 0, reason: '' }));
      }
    }
    if (results.length > 0) await this.deps.beforeRemoval();
    return results;
  }

  private async grantAll(upserts: readonly DesiredEntry[], results: ChangeResult[]): Promise<void> {
    if (upserts.length === 0) return;
    const failed = new Map<SubscriptionId, string>();
    const wanted = upserts.filter(({ access }) => {
      const problem = this.problemOf(access);
      if (problem !== '') failed.set(access.subscriptionId, problem);
      return problem === '';
    });
    await Promise.all(
      [...this.deps.engines.all()].map(async ([name, engine]) => {
        const { apply } = engineSteps(name, new Map(), wanted, []);
        const give = (list: Access[]): Promise<void> => engine.apply(list, this.deps.beforeRemoval);
        const note = (access: Access, error: unknown): void => {
          this.deps.log.error({ engine: name, subscriptionId: access.subscriptionId, error }, 'grant failed');
          failed.set(
            access.subscriptionId,
            `${name}: ${error instanceof Error ? error.message : String(error)}`,
          );
        };
        if (apply.length === 0) return;
        try {
          await give(apply);
        } catch (error) {
          // One that the engine cannot take must not keep the others out: each by itself, once.
          if (apply.length === 1) return note(apply[0] as Access, error);
          for (const access of apply) await give([access]).catch((cause: unknown) => note(access, cause));
        }
      }),
    );
    for (const entry of upserts) {
      results.push({
        subscriptionId: idHex(entry.access.subscriptionId),
        kind: ChangeKind.CHANGE_KIND_GRANT,
        ended: false,
        sessionsEnded: 0,
        cutUs: 0,
        provenUs: 0,
        reason: failed.get(entry.access.subscriptionId) ?? '',
        engine: '',
      });
    }
  }

  /** Why no engine could take this access; empty when all can. */
  private problemOf(access: Access): string {
    try {
      this.deps.engines.validate(access);
      return '';
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  private readonly isRefused = (access: Access): boolean => this.problemOf(access) !== '';

  /** What the engines are started with: an entry they could not take stays out and does not keep the others out. */
  private acceptable(entries: Iterable<DesiredEntry>): Access[] {
    return [...entries].map((entry) => entry.access).filter((access) => this.problemOf(access) === '');
  }

  /** After a snapshot: whoever an engine does not hold as asked is given to it again. */
  private async grantMissing(wanted: ReadonlyMap<SubscriptionId, DesiredEntry>): Promise<void> {
    const { differing } = readBackDigest(
      this.deps.store.state.config,
      wanted,
      await this.readBack(),
      this.isRefused,
    );
    const missing = differing.flatMap((id) => wanted.get(id) ?? []);
    if (missing.length > 0) await this.grantAll(missing, []);
  }

  private async acknowledge(
    revision: bigint,
    receivedAt: number,
    results: ChangeResult[],
  ): Promise<Acknowledgement> {
    const { store, clock, log } = this.deps;
    const { digest, differing } = readBackDigest(
      store.state.config,
      store.state.entries,
      await this.readBack(),
      this.isRefused,
    );
    const unheld = new Set(differing);
    for (const result of results) {
      if (result.kind !== ChangeKind.CHANGE_KIND_GRANT || result.reason !== '') continue;
      const id = idFromBytes<SubscriptionId>(result.subscriptionId);
      if (unheld.has(id)) result.reason = 'the engine does not hold it as asked';
    }
    if (differing.length > 0)
      log.warn({ revision, count: differing.length }, 'engines differ from the desired state');
    this.applied = { revision, digest };
    const acknowledgement: Acknowledgement = {
      revision,
      digest,
      receivedAtMs: BigInt(receivedAt),
      appliedAtMs: BigInt(clock.now()),
      results,
      errorCode: '',
      errorMessage: '',
    };
    this.acknowledgements.set(revision, acknowledgement);
    for (const old of this.acknowledgements.keys()) {
      if (this.acknowledgements.size <= ACKNOWLEDGEMENTS_KEPT) break;
      this.acknowledgements.delete(old);
    }
    return acknowledgement;
  }

  /** Acknowledgements that a new stream states again. */
  pending(): Acknowledgement[] {
    const last = this.acknowledgements.get(this.deps.store.state.revision);
    return last === undefined ? [] : [last];
  }

  private async readBack(): Promise<Map<EngineName, EngineState>> {
    const states = new Map<EngineName, EngineState>();
    for (const [name, engine] of this.deps.engines.all()) {
      try {
        states.set(name, await engine.readBack());
      } catch (error) {
        // Not running: nobody is admitted there, and every entry that uses it differs.
        this.deps.log.warn({ engine: name, error }, 'engine cannot be read back');
        states.set(name, { admitted: new Map() });
      }
    }
    return states;
  }

  private exclusively<T>(work: () => Promise<T>): Promise<T> {
    const next = this.busy.then(work, work);
    this.busy = next.catch(() => undefined);
    return next;
  }
}

function cutResult(engine: string, id: SubscriptionId, cut: CutResult | undefined): ChangeResult {
  return {
    subscriptionId: idHex(id),
    kind: ChangeKind.CHANGE_KIND_CUT,
    ended: cut?.ended ?? false,
    sessionsEnded: cut?.sessionsEnded ?? 0,
    cutUs: Math.round((cut?.cutMs ?? 0) * 1000),
    provenUs: Math.round((cut?.provenMs ?? 0) * 1000),
    reason: cut?.reason ?? 'the engine did not answer',
    engine,
  };
}

function idHex(id: SubscriptionId): Buffer {
  return Buffer.from(id.replaceAll('-', ''), 'hex');
}
