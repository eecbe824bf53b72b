// The one interface of an engine on this node. An engine holds no history: it renders configuration, drives the
// real process, and answers what it sees. Accounting (baselines, journal) belongs to accounting/, order and proof
// of revisions to enforcement/. A new engine (AmneziaWG, Hysteria2) is a folder beside xray/ and wireguard/.
import type { Access } from '@penstock/domain/access';
import type { Engine as EngineName } from '@penstock/domain/terms';
import type { SubscriptionId } from '@penstock/domain/ids';

/** One absolute counter pair of one subject; it starts at 0 with its boot and only grows. */
export interface CounterReading {
  subscriptionId: SubscriptionId;
  /** WireGuard: the device; Xray: null. */
  deviceId: string | null;
  /**
   * Life of this very counter, as far as the engine can tell it: 16 bytes, hex. Changes when the engine's process
   * was started again (kernel boot id + pid + start time from /proc, or interface index) and, for WireGuard, with
   * each peer add (the counter starts at 0 again). Never derived from `now − uptime`.
   */
  boot: string;
  /** Bytes from the customer. */
  up: bigint;
  /** Bytes to the customer. */
  down: bigint;
}

export interface CutResult {
  /** The engine no longer knows the user, no socket of his is open, two reads ≥ 200 ms apart were equal. */
  ended: boolean;
  /** Sockets destroyed or peers removed. */
  sessionsEnded: number;
  /** Monotonic ms from call to sockets destroyed / peer gone, and from call to the proof. */
  cutMs: number;
  provenMs: number;
  /** Why it is unproven, in words for the operator; empty when ended. */
  reason: string;
  /**
   * Connections of unknown owner that were ended because they came from his address (Xray, after a restart of the
   * agent): a neighbour behind the same address may have had to connect again. Absent when none.
   */
  unattributed?: number;
}

export interface EngineHealth {
  running: boolean;
  version: string;
  /** Empty when running; otherwise one sentence that says what to do. */
  problem: string;
}

/** What was read back from the running engine. */
export interface EngineState {
  /** Subscriptions the engine admits right now, with the credential it holds (compared with the desired one). */
  admitted: Map<SubscriptionId, Access>;
}

export interface Engine {
  readonly name: EngineName;
  /**
   * Adopts the running process or starts it, and makes the admitted set equal to `desired`. Safe to call again.
   * `beforeRemoval`, when given, is awaited before users that the adopted process still holds are removed.
   */
  start(desired: Iterable<Access>, beforeRemoval?: () => Promise<void>): Promise<void>;
  /** Refuses (AppError invalid_input) what the engine could not take; called before anything is changed. */
  validate(access: Access): void;
  /** Adds or changes access of these subscriptions. `beforeRemoval` is awaited before any counter can vanish. */
  apply(changes: Access[], beforeRemoval: () => Promise<void>): Promise<void>;
  /**
   * Ends access and open sessions of these subscriptions, without touching the neighbours. `beforeRemoval` is awaited
   * before a counter can vanish, and again where a last reading would otherwise wait for the proof in memory.
   */
  cut(ids: SubscriptionId[], beforeRemoval: () => Promise<void>): Promise<Map<SubscriptionId, CutResult>>;
  /**
   * All counters, absolute, in one read. Never resets anything. WireGuard: the last reading of a peer removed since
   * the call before (taken in the same breath as its removal, so after `beforeRemoval`) stands ahead of the living
   * ones, once. A device removed and added again therefore shows twice in that answer: old boot first, then new.
   */
  counters(): Promise<CounterReading[]>;
  /** What the engine really admits: asked from it, not remembered. */
  readBack(): Promise<EngineState>;
  health(): Promise<EngineHealth>;
  /**
   * `callback` is called when the engine's process is found dead, within 250 ms; not after detach() or stop().
   * The caller marks the loss and calls start() again. Absent where the engine is no process.
   */
  onDied?(callback: () => void): void;
  /** Lets go of the engine, which keeps running (agent restart). */
  detach(): Promise<void>;
  /** Ends the engine's process (node removed, `npm start` stopping). The caller has read the counters before. */
  stop(): Promise<void>;
}
