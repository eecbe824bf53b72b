// `npm run demo`: a whole Penstock in a temporary directory, two customers of two tenants on its local node, real bytes
// through real engines. A crosses his quota and is cut while B goes on. Ends with the bytes at the client, in the engine
// and in the ledger, and with exit code 0 only when every check holds. `--seed N` repeats the sizes of a run, `--keep`
// leaves its data and logs.
import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { systemClock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import { loadConfigOrExit } from '@penstock/service/config';
import { startConfigSchema } from '@penstock/stack/config';
import { Customer } from './customer.js';
import { draw, SEED_MAX } from './draw.js';
import { Figures } from './figures.js';
import { startOriginMachine } from './origin.js';
import { surveyPlace } from './place.js';
import { Product } from './product.js';
import { reportLines } from './report.js';
import { Show } from './show.js';
import { Terminal } from './terminal.js';
import { durationText } from './text.js';
import { judge, passed } from './verdict.js';
import { Watch } from './watch.js';

const config = loadConfigOrExit(startConfigSchema);
const terminal = new Terminal();
const undo: (() => Promise<unknown>)[] = [];
const atEnd = (step: () => Promise<unknown>): void => void undo.push(step);
let ending: Promise<void> | null = null;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    if (ending !== null) return;
    terminal.end();
    terminal.print('', `  Stopping (${signal === 'SIGINT' ? 'Ctrl-C' : signal}) …`);
    void clean().then(() => process.exit(130));
  });
}

try {
  const good = await run(wishes(process.argv.slice(2)));
  await clean();
  process.exit(good ? 0 : 1);
} catch (error) {
  // Interrupted: whoever asked for the end waits for it.
  if (ending !== null) await new Promise(() => undefined);
  terminal.end();
  const message = error instanceof AppError ? error.message : String((error as Error).stack ?? error);
  process.stderr.write(`\n  ${message}\n`);
  await clean();
  process.exit(1);
}

async function run({ seed, keep }: Wishes): Promise<boolean> {
  const startedAtMs = systemClock.monotonic();
  const { paint } = terminal;
  terminal.print(
    '',
    `  ${paint('bold', 'Penstock demo')}   ${paint('dim', `seed ${seed} (--seed ${seed} repeats its sizes, rates and quotas)`)}`,
    '',
  );
  const say = (line: string): void => terminal.step(line);
  const place = await surveyPlace(config, say);
  for (const text of place.notShown) terminal.print(`  ${paint('yellow', '– not shown here:')} ${text}`);
  const drawn = draw(seed, place.engines);
  const product = await Product.start(place, say, atEnd, keep);
  const [a, b, origin] = await timed('Node enrolled, two tenants, a customer each', say, async () => {
    const customers = Promise.all([
      product.addCustomer('North', drawn.crosser.quotaBytes),
      product.addCustomer('South', drawn.neighbour.quotaBytes),
    ]);
    const [subscriptions, machine] = await Promise.all([
      customers,
      startOriginMachine(place, atEnd),
      product.startNode(),
    ]);
    return [...subscriptions, machine] as const;
  });
  const world = { place, product, origin, atEnd };
  const [crosser, neighbour] = await timed('Customers let in, their clients connected', say, () =>
    Promise.all([
      Customer.equip('A', drawn.crosser, a, world),
      Customer.equip('B', drawn.neighbour, b, world),
    ]),
  );
  const figures = new Figures(place, product);
  atEnd(() => figures.close());
  const watch = new Watch(figures, [crosser, neighbour]);
  atEnd(() => watch.stop());
  const { canEndSessions } = place;
  const show = new Show({ crosser, neighbour, origin, watch, terminal, seed, startedAtMs, canEndSessions });
  const course = await show.run();
  const api = await product.enforcement(a);
  terminal.clear();
  const checks = judge(course);
  const story = {
    course,
    apiState: String(api['state']),
    apiMs: typeof api['ms'] === 'number' ? api['ms'] : null,
    crosserRate: show.crosserRate,
  };
  terminal.print(...reportLines(story, checks, paint));
  terminal.print(
    paint('dim', `  ${durationText(systemClock.monotonic() - startedAtMs)} in all, seed ${seed}`),
  );
  return passed(checks);
}

/** Ends everything that was started, the newest first. */
function clean(): Promise<void> {
  ending ??= (async () => {
    for (const step of undo.reverse()) await step().catch(() => undefined);
  })();
  return ending;
}

async function timed<T>(what: string, say: (line: string) => void, work: () => Promise<T>): Promise<T> {
  const started = systemClock.monotonic();
  const made = await work();
  say(`${what} (${((systemClock.monotonic() - started) / 1000).toFixed(1)} s)`);
  return made;
}

interface Wishes {
  seed: number;
  keep: boolean;
}

function wishes(args: string[]): Wishes {
  try {
    const { values } = parseArgs({
      args,
      options: { seed: { type: 'string' }, keep: { type: 'boolean', default: false } },
    });
    const { keep } = values;
    if (values.seed === undefined) return { seed: randomInt(1_000_000), keep };
    const seed = Number(values.seed);
    if (!Number.isInteger(seed) || seed < 0 || seed > SEED_MAX) throw new Error('not a seed');
    return { seed, keep };
  } catch {
    throw new AppError(
      'invalid_input',
      `Usage: npm run demo [-- [--seed N] [--keep]], N from 0 to ${SEED_MAX}.`,
    );
  }
}
