// `npm run bench -- NAME [--json]`: runs one benchmark against its anchor. With --json the last line on standard output
// is one JSON object (result.ts); everything else goes to standard error. Exit code 1 below the floor.
import { benchOptions, print, type Bench } from './result.js';

/** Name → module, loaded when asked for. */
const benches: Readonly<Record<string, () => Promise<{ bench: Bench }>>> = {
  'api-get': () => import('./api-get.js'),
  'login-flood': () => import('./login-flood.js'),
  'list-subscriptions': () => import('./list-subscriptions.js'),
  'bulk-create': () => import('./bulk-create.js'),
  ingest: () => import('./ingest.js'),
  order: () => import('./order.js'),
  'rate-limit': () => import('./rate-limit.js'),
};

const [name = '', ...args] = process.argv.slice(2);
const load = benches[name];
if (load === undefined) {
  process.stderr.write(`Say which benchmark to run: ${Object.keys(benches).join(', ')}.\n`);
  process.exit(2);
}
const { bench } = await load();
const result = await bench(benchOptions(args));
print(result, args.includes('--json'));
process.exit(result.good ? 0 : 1);
