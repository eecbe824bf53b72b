// One picture of everything that counts, taken again and again: each customer's own figures, the engines', the ledger's.
// Invariant: a picture of a standing still is consistent, because the engines are read before and after the ledger and
// settled() compares both. Called by main.ts, which draws it and waits on it.
import { systemClock } from '@penstock/domain/clock';
import type { Engine } from '@penstock/domain/terms';
import { until } from '@penstock/stack/until';
import type { ClientProgress } from './client-lines.js';
import type { Customer } from './customer.js';
import type { Booked, Bytes, Figures } from './figures.js';

const PAUSE_MS = 150;
const SETTLE_TIMEOUT_MS = 15_000;

export interface Picture {
  customer: Customer;
  client: ClientProgress;
  /** Null where the engine no longer knows the peer: see `lastSeen`. */
  engine: ReadonlyMap<Engine, Bytes | null>;
  /** The newest figures that the engine ever showed us. */
  lastSeen: ReadonlyMap<Engine, Bytes>;
  booked: Booked;
}

export class Watch {
  pictures: readonly Picture[] = [];
  /** Told after each round. */
  onRound: () => void = () => undefined;
  private readonly lastSeen = new Map<string, Bytes>();
  private stopped = false;
  private loop: Promise<void> = Promise.resolve();
  private problem: Error | null = null;

  constructor(
    private readonly figures: Figures,
    private readonly customers: readonly Customer[],
  ) {}

  start(): void {
    this.loop = (async () => {
      while (!this.stopped) {
        await this.round();
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    })().catch((error: unknown) => {
      this.problem = error as Error;
    });
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.loop;
  }

  /** Waits until `fits` says something about the newest pictures. */
  wait<T>(what: string, timeoutMs: number, fits: () => T | null): Promise<T> {
    return until(what, timeoutMs, () => {
      if (this.problem !== null) throw this.problem;
      return this.pictures.length === 0 ? null : fits();
    });
  }

  /**
   * Waits until nothing moves: two rounds of engines' figures with equal values around one of the ledger, and the
   * ledger equal to the engine wherever the engine still shows the customer. Gives the last round in any case.
   */
  async settled(): Promise<readonly Picture[]> {
    await this.stop();
    const deadline = systemClock.monotonic() + SETTLE_TIMEOUT_MS;
    for (;;) {
      const before = await this.round();
      const after = await this.round();
      const still = before.every((picture, index) => {
        const again = after[index];
        return again !== undefined && shows(picture) === shows(again) && agrees(picture);
      });
      if (still || systemClock.monotonic() > deadline) return before;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  private async round(): Promise<readonly Picture[]> {
    const usesWireguard = this.customers.some(({ deviceKey }) => deviceKey !== '');
    const [xray, peers] = await Promise.all([
      this.figures.xray(this.customers),
      usesWireguard ? this.figures.wireguard() : new Map<string, Bytes>(),
    ]);
    const pictures = await Promise.all(
      this.customers.map(async (customer): Promise<Picture> => {
        const engine = new Map<Engine, Bytes | null>();
        for (const name of customer.part.transfers.keys()) {
          const shown =
            name === 'xray' ? xray.get(customer.subscription.subscriptionId) : peers.get(customer.deviceKey);
          engine.set(name, shown ?? null);
          if (shown !== undefined) this.lastSeen.set(`${customer.label} ${name}`, shown);
        }
        const lastSeen = new Map(
          [...engine.keys()].map((name) => [
            name,
            this.lastSeen.get(`${customer.label} ${name}`) ?? { up: 0n, down: 0n },
          ]),
        );
        const booked = await this.figures.booked(customer.subscription);
        return { customer, client: customer.progress, engine, lastSeen, booked };
      }),
    );
    this.pictures = pictures;
    this.onRound();
    return pictures;
  }
}

function shows({ engine }: Picture): string {
  return [...engine].map(([name, bytes]) => `${name} ${bytes?.up ?? '-'} ${bytes?.down ?? '-'}`).join(', ');
}

function agrees({ engine, booked }: Picture): boolean {
  let ledgerTotal = 0n;
  for (const [name, bytes] of engine) {
    const ledger = booked.ledger.get(name);
    if (ledger === undefined) return false;
    if (bytes !== null && (bytes.up !== ledger.up || bytes.down !== ledger.down)) return false;
    ledgerTotal += ledger.up + ledger.down;
  }
  return booked.used === ledgerTotal;
}
