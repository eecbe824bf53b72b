// A node for the journal's tests: engines whose counters we set, the real sampler and journal over a directory that can
// lose power, and one exchange with the model ledger at a time. Time stands still; nothing runs by itself.
import { FakeClock } from '@penstock/domain/clock';
import { newId, type SubscriptionId, type TenantId } from '@penstock/domain/ids';
import type { CounterReading, Engine } from '../../src/engines/engine.js';
import { Mutex } from '../../src/engines/wireguard/mutex.js';
import { agree } from '../../src/accounting/agreement.js';
import { Sampler } from '../../src/accounting/sampler.js';
import { Wal } from '../../src/accounting/wal.js';
import { type CrashingFiles } from './crashing-files.js';
import { testIdentity, type ModelLedger } from './model-ledger.js';

export const silent = { info: () => undefined, warn: () => undefined, error: () => undefined };
const never = { after: () => () => undefined };

interface Life {
  subscriptionId: SubscriptionId;
  deviceId: string | null;
  boot: string;
  up: bigint;
  down: bigint;
}

/** Counters as an engine has them; knows everything that was ever counted. */
export class SimEngine implements Pick<Engine, 'name' | 'counters'> {
  readonly lives = new Map<string, Life>();
  /** Bytes of lives that ended after they were read. */
  endedUp = 0n;
  endedDown = 0n;
  #boots = 0;

  constructor(readonly name: Engine['name']) {}

  add(key: string, subscriptionId: SubscriptionId, deviceId: string | null): void {
    this.lives.set(key, { subscriptionId, deviceId, boot: this.#boot(), up: 0n, down: 0n });
  }

  #boot(): string {
    this.#boots++;
    return `${this.name === 'xray' ? 'a' : 'b'}${this.#boots.toString(16).padStart(31, '0')}`;
  }

  move(key: string, up: bigint, down: bigint): void {
    const life = this.lives.get(key);
    if (life === undefined) return;
    life.up += up;
    life.down += down;
  }

  /** Ends a life that was read; the next one of the same subject starts at 0. */
  again(key: string): void {
    const life = this.lives.get(key);
    if (life === undefined) return;
    this.endedUp += life.up;
    this.endedDown += life.down;
    this.add(key, life.subscriptionId, life.deviceId);
  }

  counters(): Promise<CounterReading[]> {
    return Promise.resolve([...this.lives.values()].map((life) => ({ ...life })));
  }

  get total(): { up: bigint; down: bigint } {
    let up = this.endedUp;
    let down = this.endedDown;
    for (const life of this.lives.values()) {
      up += life.up;
      down += life.down;
    }
    return { up, down };
  }
}

export class SimNode {
  readonly clock = new FakeClock();
  readonly engines = [new SimEngine('xray'), new SimEngine('wireguard')];
  readonly keys: string[] = [];
  readonly nodeId: Buffer;
  readonly #tenants = new Map<SubscriptionId, TenantId>();
  /** Tenants can be forgotten, as after a removal. */
  tenantsKnown = true;
  wal!: Wal;
  sampler!: Sampler;
  capBytes = 512 * 1024;

  constructor(
    public files: CrashingFiles,
    nodeId: Buffer,
    subscriptions = 4,
  ) {
    this.nodeId = nodeId;
    const tenants = [newId<TenantId>(), newId<TenantId>()];
    for (let i = 0; i < subscriptions; i++) {
      const id = newId<SubscriptionId>();
      this.#tenants.set(id, tenants[i % 2] as TenantId);
      this.engines[0]?.add(`x${String(i)}`, id, null);
      this.engines[1]?.add(`w${String(i)}`, id, newId());
      this.keys.push(`x${String(i)}`, `w${String(i)}`);
    }
  }

  get total(): { up: bigint; down: bigint } {
    return this.engines.reduce(
      (sum, engine) => ({ up: sum.up + engine.total.up, down: sum.down + engine.total.down }),
      { up: 0n, down: 0n },
    );
  }

  engineOf(key: string): SimEngine {
    return (key.startsWith('x') ? this.engines[0] : this.engines[1]) as SimEngine;
  }

  /** Starts the agent on what the directory holds. */
  async boot(): Promise<void> {
    const { clock } = this;
    const { files, capBytes } = this;
    this.wal = await Wal.open({ files, capBytes, nowMs: clock.now(), turns: new Mutex() });
    this.sampler = new Sampler({
      engines: this.engines,
      wal: this.wal,
      windowMs: 5000,
      clock,
      timers: never,
      correctedNow: () => clock.now(),
      identity: () => testIdentity(this.nodeId),
      tenantOf: (id) => (this.tenantsKnown ? (this.#tenants.get(id) ?? null) : null),
      onSealed: () => undefined,
      log: silent,
    });
  }

  async seal(): Promise<boolean> {
    this.clock.advance(1000);
    await this.sampler.seal(false);
    return !this.sampler.degraded.has('journal_unwritable') && !this.sampler.degraded.has('journal_full');
  }

  async readAndSeal(): Promise<boolean> {
    await this.sampler.read();
    return this.seal();
  }

  /**
   * One stream: at most `frames` frames go over, the answers of the last `lost` of them never come back. False when the
   * epoch was given up and a second stream is needed.
   */
  async exchange(ledger: ModelLedger, frames = Infinity, lost = 0): Promise<boolean> {
    const grant = ledger.open(this.wal.head());
    const { epoch, nextSeq, link } = grant;
    const next = agree(this.wal, { epoch, nextSeq, headDigest: link, baselinesNeeded: grant.isNew });
    if (next === 'reopen') return false;
    if (next === 'begin') await this.wal.beginEpoch({ ...grant, nowMs: this.clock.now() });
    const answers: bigint[] = [];
    let seq = nextSeq;
    for (let sent = 0; sent < frames && seq < this.wal.state.nextSeq; sent++) {
      const frame =
        (await this.wal.frameAt(seq)) ?? (await this.wal.appendGap(seq, testIdentity(this.nodeId)));
      const verdict = ledger.receive(frame);
      if (verdict.kind === 'expected') throw new Error('the ledger expected another frame');
      answers.push(seq);
      seq++;
    }
    for (const answer of answers.slice(0, Math.max(0, answers.length - lost))) {
      if (!this.wal.acknowledge(epoch, answer)) {
        this.wal.abandonEpoch();
        return false;
      }
    }
    await this.wal.removeAcknowledged();
    return true;
  }

  /** Reads, seals and sends until the ledger has everything. */
  async settle(ledger: ModelLedger): Promise<void> {
    for (let round = 0; round < 6; round++) {
      await this.readAndSeal();
      const open = await this.exchange(ledger);
      await this.readAndSeal();
      if (open && this.wal.unacknowledged === 0 && ledger.seq === this.wal.state.nextSeq - 1n) return;
    }
    throw new Error('journal and ledger do not come together');
  }
}
