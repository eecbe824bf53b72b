// The course of a demo once everything is set up: both customers move their bytes, A crosses his quota and is cut while
// B goes on, a new connection of A is refused, the origin falls silent, and all figures are read while nothing moves.
// Draws the board meanwhile. Called by main.ts.
import { systemClock } from '@penstock/domain/clock';
import type { Engine } from '@penstock/domain/terms';
import { boardLines, type Happening } from './board.js';
import type { Customer } from './customer.js';
import type { OriginMachine } from './origin.js';
import type { Terminal } from './terminal.js';
import { durationText } from './text.js';
import type { Account, Course } from './verdict.js';
import type { Picture, Watch } from './watch.js';

const DRAW_MS = 120;
const RATE_OVER_MS = 1_000;
const FILES_TIMEOUT_MS = 40_000;
const CUT_TIMEOUT_MS = 40_000;
const END_TIMEOUT_MS = 6_000;
/** A tunnel without a byte for so long has fallen silent. */
const SILENT_MS = 1_200;
/** So long B is watched after A was cut. */
const NEIGHBOUR_WATCHED_MS = 2_500;

export interface Cast {
  crosser: Customer;
  neighbour: Customer;
  origin: OriginMachine;
  watch: Watch;
  terminal: Terminal;
  seed: number;
  startedAtMs: number;
  canEndSessions: boolean;
}

export class Show {
  private readonly happenings: Happening[] = [];
  private readonly seen = new Set<string>();
  private readonly payload = new Map<string, { atMs: number; bytes: number }[]>();
  private title = 'Penstock moves bytes';

  constructor(private readonly cast: Cast) {}

  async run(): Promise<Course> {
    const { crosser, neighbour, watch } = this.cast;
    watch.start();
    const drawing = setInterval(() => this.draw(), DRAW_MS);
    try {
      crosser.start();
      neighbour.start();
      return await this.play();
    } finally {
      clearInterval(drawing);
      await watch.stop();
      this.draw(true);
    }
  }

  /** What A's streams move a second, as drawn. */
  get crosserRate(): number {
    return [...this.cast.crosser.part.transfers.values()].reduce(
      (all, one) => all + one.streamBytesPerSecond,
      0,
    );
  }

  private async play(): Promise<Course> {
    const { crosser, neighbour, origin, watch } = this.cast;
    this.title = 'Files first, then streams';
    const streaming = (customer: Customer): boolean =>
      customer.progress.paths.every(({ phase }) => phase === 'streams');
    await watch.wait('The transfer of the first files', FILES_TIMEOUT_MS, () => {
      const failure = crosser.failure ?? neighbour.failure;
      if (failure !== null) throw new Error(failure);
      return streaming(neighbour) && (streaming(crosser) || crosser.progress.crossedAtMs !== null)
        ? true
        : null;
    });
    this.note('files', 'every file arrived whole; the streams run');
    this.title = 'A comes near his quota';
    const answered = await watch.wait("The cut of A's access", CUT_TIMEOUT_MS, () => {
      const order = this.pictureOf(crosser)?.booked.order;
      return order?.kind === 'cut' && order.state !== 'ordered' ? order : null;
    });
    const cutAtMs = systemClock.monotonic();
    this.title = this.cast.canEndSessions ? 'A is cut, B goes on' : 'A is refused, B goes on';
    if (this.cast.canEndSessions) await this.waitForEnd();
    // Before he tries again: his device would count the packets of the attempt, which no engine sees.
    const atCut = crosser.progress;
    const triedBytes = await crosser.tryAgain();
    const refused = [...triedBytes.values()].every((bytes) => bytes === 0);
    this.note(
      'tried',
      refused ? 'A tries again: a new connection is refused' : 'A tries again, and IS LET IN',
    );
    await watch.wait('The time to watch B', END_TIMEOUT_MS, () =>
      systemClock.monotonic() - cutAtMs > NEIGHBOUR_WATCHED_MS ? true : null,
    );
    const neighbourPaths = neighbour.progress.paths;
    this.note('over', 'the origin falls silent; what is on its way arrives');
    this.title = 'Nothing moves any more';
    origin.fallSilent();
    const pictures = await watch.settled();
    const order = pictures.find(({ customer }) => customer === crosser)?.booked.order ?? null;
    return {
      canEndSessions: this.cast.canEndSessions,
      quotaBytes: crosser.subscription.quotaBytes,
      used: pictures.map(({ customer, booked }) => ({
        label: customer.label,
        used: booked.used,
        ledger: [...booked.ledger.values()].reduce((all, { up, down }) => all + up + down, 0n),
        state: booked.state,
      })),
      accounts: pictures.flatMap((one) => {
        const cut = this.cast.canEndSessions && one.customer === crosser;
        return accountsOf(cut ? { ...one, client: atCut } : one, cut);
      }),
      // What is unproven is ordered again and again: between two answers the last one counts.
      order: order === null || order.state === 'ordered' ? answered : order,
      endedAfterMs: this.cast.canEndSessions ? endedAfterMs(crosser) : new Map(),
      triedBytes,
      neighbour: neighbourPaths,
    };
  }

  /** Until A's own end shows it and the node proved it; what never comes is a check that fails, not a demo that stops. */
  private async waitForEnd(): Promise<void> {
    const { crosser, watch } = this.cast;
    await watch
      .wait("The end of A's sessions", END_TIMEOUT_MS, () =>
        [...endedAfterMs(crosser).values()].includes(null) ||
        this.pictureOf(crosser)?.booked.order?.state !== 'confirmed'
          ? null
          : true,
      )
      .catch(() => undefined);
  }

  private pictureOf(customer: Customer): Picture | undefined {
    return this.cast.watch.pictures.find((picture) => picture.customer === customer);
  }

  /** Once a key. */
  private note(key: string, text: string): void {
    if (this.seen.has(key)) return;
    this.seen.add(key);
    this.happenings.push({ atMs: this.elapsedMs, text });
  }

  private get elapsedMs(): number {
    return systemClock.monotonic() - this.cast.startedAtMs;
  }

  private draw(now = false): void {
    const { crosser, neighbour, watch, terminal, seed } = this.cast;
    if (watch.pictures.length === 0) return;
    // The customers' own figures come ten times a second, the engines' and the ledger's as fast as they can be read.
    const pictures = watch.pictures.map((picture) => ({ ...picture, client: picture.customer.progress }));
    this.notice(pictures.find(({ customer }) => customer === crosser));
    const rates = new Map([crosser, neighbour].flatMap((customer) => this.ratesOf(customer)));
    const still = this.seen.has('over');
    const view = { seed, elapsedMs: this.elapsedMs, title: this.title, still, pictures, rates };
    terminal.draw(boardLines({ ...view, happenings: this.happenings }, terminal.paint), now);
  }

  private notice(picture: Picture | undefined): void {
    if (picture === undefined) return;
    const { client, booked, customer } = picture;
    if (client.crossedAtMs !== null) {
      this.note('crossed', `at his own end A moves the byte that crosses his quota`);
    }
    const { order } = booked;
    if (order?.kind === 'cut') {
      this.note('ordered', 'the crossing is booked; the node is ordered to cut A');
      for (const [engine, ms] of endedAfterMs(customer)) {
        if (ms === null || !this.cast.canEndSessions) continue;
        const what = engine === 'xray' ? 'connection over Xray ended' : 'WireGuard tunnel is silent';
        this.note(`ended ${engine}`, `A's ${what}, ${durationText(ms)} after that byte`);
      }
      if (order.state === 'confirmed')
        this.note('state', 'the node proved it: A is unknown, his counters stand still');
      if (order.state === 'unproven')
        this.note('state', 'the node says “unproven”: it may not end the open session');
    }
  }

  private ratesOf(customer: Customer): [string, number][] {
    const { atMs, paths } = customer.progress;
    return paths.map(({ engine, payloadBytes }) => {
      const key = `${customer.label} ${engine}`;
      const points = this.payload.get(key) ?? [];
      this.payload.set(key, points);
      points.push({ atMs, bytes: payloadBytes });
      while (points.length > 2 && atMs - (points[1]?.atMs ?? atMs) >= RATE_OVER_MS) points.shift();
      const [oldest] = points;
      const spanMs = oldest === undefined ? 0 : atMs - oldest.atMs;
      return [key, oldest === undefined || spanMs <= 0 ? 0 : ((payloadBytes - oldest.bytes) / spanMs) * 1000];
    });
  }
}

/** Milliseconds from the crossing byte to the end, on the customer's clock; null where it has not ended. */
function endedAfterMs(customer: Customer): Map<Engine, number | null> {
  const { atMs, crossedAtMs, paths } = customer.progress;
  return new Map(
    paths.map(({ engine, phase, endedAtMs, lastByteAtMs }) => {
      const silent = engine === 'wireguard' && phase === 'streams' && atMs - lastByteAtMs > SILENT_MS;
      const at = endedAtMs ?? (silent ? lastByteAtMs : null);
      return [engine, at === null ? null : Math.max(0, at - (crossedAtMs ?? at))];
    }),
  );
}

function accountsOf({ customer, client, engine, lastSeen, booked }: Picture, cut: boolean): Account[] {
  const nothing = { up: 0n, down: 0n };
  return client.paths.map((path) => ({
    label: customer.label,
    engine: path.engine,
    client: { up: BigInt(path.sentBytes), down: BigInt(path.receivedBytes) },
    counted: engine.get(path.engine) ?? null,
    lastSeen: lastSeen.get(path.engine) ?? nothing,
    ledger: booked.ledger.get(path.engine) ?? nothing,
    cut,
  }));
}
