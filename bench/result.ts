// What a benchmark gives back and how it is printed. Ratios are judged, not absolute figures: the machine swings.
import { cpus, loadavg } from 'node:os';
import { parseArgs } from 'node:util';

export interface BenchOptions {
  /** Interleaved with the anchor. */
  rounds: number;
  /** Units of work a round; its meaning is the benchmark's. */
  count: number | undefined;
  say: (line: string) => void;
}

export interface BenchResult {
  name: string;
  /** Median over the rounds. */
  value: number;
  unit: string;
  /** The same of the anchor. */
  anchor: number;
  /** Median of the rounds' own ratios. */
  ratio: number;
  /** min, median, max of the value over the rounds. */
  rounds: [number, number, number];
  /** False below the floor. */
  good: boolean;
  /** Further figures by name. */
  also: Readonly<Record<string, number | string>>;
}

export type Bench = (options: BenchOptions) => Promise<BenchResult>;

export function benchOptions(args: string[]): BenchOptions {
  const { values } = parseArgs({
    args,
    options: { json: { type: 'boolean' }, rounds: { type: 'string' }, count: { type: 'string' } },
  });
  return {
    rounds: Number(values.rounds ?? 5),
    count: values.count === undefined ? undefined : Number(values.count),
    say: (line) => process.stderr.write(`${line}\n`),
  };
}

/** Value below which a share `q` of the samples lies. */
export function quantile(samples: readonly number[], q: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5);
}

export function spread(samples: readonly number[]): [number, number, number] {
  return [round(Math.min(...samples)), round(median(samples)), round(Math.max(...samples))];
}

export function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}

export function print(result: BenchResult, json: boolean): void {
  const machine = { cpus: cpus().length, load: round(loadavg()[0] ?? 0), node: process.versions.node };
  if (json) {
    process.stdout.write(`${JSON.stringify({ ...result, machine })}\n`);
    return;
  }
  const { name, value, unit, anchor, ratio, rounds, good, also } = result;
  process.stdout.write(
    `${name}: ${value} ${unit} (rounds ${rounds.join(' / ')}), anchor ${anchor} ${unit}, ratio ${ratio}\n`,
  );
  for (const [key, figure] of Object.entries(also)) process.stdout.write(`  ${key}: ${figure}\n`);
  process.stdout.write(
    `  load ${machine.load} on ${machine.cpus} processors; ${good ? 'within' : 'BELOW'} the floor\n`,
  );
}
