// `npm start`: tools, packages, build, then the product itself (packages/stack) on this terminal. Ctrl-C
// reaches the product, which stops in order; when npm above us is killed, the product is told to stop too,
// so nobody is left running without an owner.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ensureBuilt } from './build.mjs';
import { ensurePackages } from './install.mjs';
import { LauncherError, main, repo, runAttached } from './step.mjs';
import { ensureToolchain, node, toolchainEnv } from './toolchain.mjs';

const parentCheckMs = 1000;

await main(async () => {
  process.stdout.write('Penstock\n');
  await ensureToolchain();
  await ensurePackages();
  await ensureBuilt('product');
  const entry = join(repo, 'packages', 'stack', 'dist', 'bin', 'start.js');
  if (!existsSync(entry)) throw new LauncherError(`The build left no ${entry}.`);
  const above = ancestors();
  const underNpm = process.env.npm_lifecycle_event !== undefined;
  const watch = setInterval(() => {
    if (underNpm && ancestors() !== above) process.kill(process.pid, 'SIGTERM');
  }, parentCheckMs);
  try {
    // The open pipe (fd 3) tells the product that we are gone, also by kill -9.
    return await runAttached(node, [entry, ...process.argv.slice(2)], {
      env: toolchainEnv({ PENSTOCK_OWNER_FD: '3' }),
      stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
    });
  } finally {
    clearInterval(watch);
  }
});

/** Who started us: the shell of npm and, where the system tells, npm above it. Changes when one of them is gone. */
function ancestors() {
  const parent = process.ppid;
  try {
    const stat = readFileSync(`/proc/${parent}/stat`, 'latin1');
    return `${parent} ${stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]}`;
  } catch {
    return String(parent);
  }
}
