// Finds, fetches or builds both engines and prints one JSON line {xray, wireguard}: path, `kernel`, or null.
// Progress goes to standard error. Called by npm test before the tests, and by the demo.
import { loadConfigOrExit } from '@penstock/service/config';
import { startConfigSchema } from '../config.js';
import { engineOptions } from '../engine-options.js';
import { provideWireguard, provideXray } from '../engines.js';

const config = loadConfigOrExit(startConfigSchema);
const options = engineOptions(config, (line) => process.stderr.write(`  ${line}\n`));
try {
  // One after the other: two Go builds at once would only fight for the processor.
  const wireguard = await provideWireguard(options);
  const xray = await provideXray(options);
  const found = {
    xray: xray?.path ?? null,
    wireguard: wireguard === null ? null : (wireguard.path ?? 'kernel'),
  };
  process.stdout.write(`${JSON.stringify(found)}\n`);
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n`);
  process.exitCode = 1;
}
