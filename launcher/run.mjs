// `npm run demo|bench|test:mutants`: makes the tools, packages and build ready and runs the named program
// with the pinned Node. Engines are looked for by the programs themselves; the mutants' tests get them from here.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ensureBuilt } from './build.mjs';
import { ensurePackages } from './install.mjs';
import { ensureEngines } from './machine.mjs';
import { LauncherError, main, repo, runAttached } from './step.mjs';
import { ensureToolchain, node, toolchainEnv } from './toolchain.mjs';

/** Name → where its program may be, compiled first. */
const programs = {
  demo: ['tools/demo/dist/main.js', 'tools/demo/main.ts', 'tools/demo.mjs'],
  bench: ['bench/dist/main.js', 'bench/main.ts', 'bench/main.mjs'],
  mutants: ['test/mutants/dist/main.js', 'test/mutants/main.ts', 'test/mutants/main.mjs'],
};

await main(async () => {
  const [name, ...args] = process.argv.slice(2);
  const places = programs[name];
  if (places === undefined) {
    throw new LauncherError(`Say which program to run: ${Object.keys(programs).join(', ')}.`);
  }
  // One JSON line is asked for: what we say goes to the other stream.
  if (args.includes('--json')) process.stdout.write = process.stderr.write.bind(process.stderr);
  await ensureToolchain();
  await ensurePackages();
  await ensureBuilt('everything');
  const engines = name === 'mutants' ? (await ensureEngines()).env : {};
  const place = places.map((path) => join(repo, path)).find((path) => existsSync(path));
  if (place === undefined) throw new LauncherError(`There is no ${places[0]} in this clone.`);
  return runAttached(node, [place, ...args], { env: toolchainEnv(engines) });
});
