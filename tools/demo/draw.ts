// The demo's dice: from one seed, how much each customer moves over each engine, how fast, and what his quota is.
// Pure: the same seed gives the same run. Called by main.ts.
import type { Engine } from '@penstock/domain/terms';

/** What one customer does over one engine: both files first, then the stream until somebody ends it. */
export interface Transfers {
  uploadBytes: number;
  downloadBytes: number;
  streamBytesPerSecond: number;
}

export interface Part {
  transfers: ReadonlyMap<Engine, Transfers>;
  quotaBytes: bigint;
}

export interface Draw {
  seed: number;
  /** Crosses his quota a few seconds into the stream. */
  crosser: Part;
  /** Has far more than he can use. */
  neighbour: Part;
}

export const SEED_MAX = 0xffff_ffff;

/** What the engine counts for a byte of payload, about: WireGuard adds headers, padding and acknowledgements. */
const COUNTED: Record<Engine, number> = { xray: 1, wireguard: 1.1 };

export function draw(seed: number, engines: readonly Engine[]): Draw {
  const random = dice(seed);
  const part = (
    rate: [number, number],
    quota: (transfers: ReadonlyMap<Engine, Transfers>) => number,
  ): Part => {
    // Always for both engines, so that a seed means the same sizes wherever it runs.
    const all = (['xray', 'wireguard'] as const).map((engine): [Engine, Transfers] => [
      engine,
      {
        uploadBytes: random(150_000, 700_000),
        downloadBytes: random(700_000, 2_500_000),
        streamBytesPerSecond: random(...rate),
      },
    ]);
    const transfers = new Map(all.filter(([engine]) => engines.includes(engine)));
    return { transfers, quotaBytes: BigInt(Math.round(quota(transfers))) };
  };
  const seconds = random(3_000, 5_000) / 1000;
  const crosser = part([900_000, 2_200_000], (transfers) => expectedBytes(transfers, seconds));
  const neighbour = part([300_000, 800_000], () => random(300_000_000, 900_000_000));
  return { seed, crosser, neighbour };
}

/** What the engines will have counted when the stream has run for `seconds`, about. */
function expectedBytes(transfers: ReadonlyMap<Engine, Transfers>, seconds: number): number {
  let sum = 0;
  for (const [engine, one] of transfers) {
    sum += COUNTED[engine] * (one.uploadBytes + one.downloadBytes + one.streamBytesPerSecond * seconds);
  }
  return sum;
}

/** Whole numbers from `least` to `most`, the same row for the same seed (mulberry32). */
export function dice(seed: number): (least: number, most: number) => number {
  let state = seed >>> 0;
  return (least, most) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    const fraction = ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
    return least + Math.floor(fraction * (most - least + 1));
  };
}
