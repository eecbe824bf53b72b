// `npm test`: everything that proves the product. Tools, packages, build, system packages and engines first, then
// the checks, then all tests against the built processes, and the end-to-end tests again with Caddy in front (its
// kill loops only with --full). The last line is `N passed, N failed, N skipped` from the
// test runner's own report. Under CI=true nothing may be missing, and as root nothing may be skipped.
// `npm test -- NAME` runs the test files whose path holds NAME and leaves the checks out; `--full` asks for the
// full counts and writes what came of them to docs/full-run.md.

import { mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ensureBuilt } from './build.mjs';
import { runChecks } from './checks.mjs';
import { ensurePackages } from './install.mjs';
import { ensureEngines, ensureSystemPackages, isRoot } from './machine.mjs';
import { LauncherError, cache, main, repo, runAttached, seconds } from './step.mjs';
import { ensureToolchain, node, toolchainEnv } from './toolchain.mjs';

const strict = process.env.CI === 'true';
const args = process.argv.slice(2);
const full = args.includes('--full');
const filters = args.filter((arg) => arg !== '--full');

await main(async () => {
  const started = performance.now();
  await ensureToolchain();
  await ensurePackages();
  await ensureBuilt('everything');
  const missing = await ensureSystemPackages();
  const engines = await ensureEngines();
  missing.push(...engines.missing.filter((name) => isRoot || name !== 'WireGuard'));
  if (missing.length > 0) {
    const sentence = `Missing on this machine: ${missing.join(', ')}.`;
    if (strict && isRoot) throw new LauncherError(sentence);
    process.stdout.write(`  ${sentence} What needs it is skipped.\n`);
  }
  const failedChecks = filters.length === 0 ? await runChecks() : [];
  const reports = [await runTests(engines.env, filters)];
  if (filters.length === 0 && !missing.includes('caddy')) {
    process.stdout.write('\nThe end-to-end tests again, through Caddy:\n');
    // caddy.test.ts has Caddy in front anyway.
    const left = ['--exclude', '**/caddy.test.ts', ...(full ? [] : ['--exclude', '**/kills.test.ts'])];
    const env = { ...engines.env, PENSTOCK_E2E_EDGE: 'caddy' };
    reports.push({ ...(await runTests(env, ['test/e2e', ...left])), suffix: ' (through Caddy)' });
  }
  const files = filesOf(reports);
  if (full) await (await import('./full-run.mjs')).recordFullRun({ files, filters, failedChecks });
  return conclude(reports, files, failedChecks, performance.now() - started);
});

async function runTests(engineEnv, what) {
  const file = join(cache, 'vitest.json');
  await mkdir(cache, { recursive: true });
  await rm(file, { force: true });
  const vitest = join(repo, 'node_modules', 'vitest', 'vitest.mjs');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  const env = toolchainEnv({ ...engineEnv, ...(full ? { PENSTOCK_TEST_FULL: '1' } : {}) });
  const code = await runAttached(node, [vitest, 'run', ...reporters, ...what], { env });
  const report = await readFile(file, 'utf8').then(JSON.parse, () => null);
  if (report === null) throw new LauncherError(`The test runner ended with code ${code} and left no report.`);
  return { ...report, code };
}

/** The results of all test files, each with its path. */
function filesOf(reports) {
  return reports.flatMap(({ testResults, suffix = '' }) =>
    testResults.map((result) => ({ ...result, file: `${result.name.slice(repo.length + 1)}${suffix}` })),
  );
}

function conclude(reports, files, failedChecks, ms) {
  // A file that breaks outside its tests (loading, preparing, cleaning up) is one failure; what it left out is not
  // called skipped.
  const failedInside = (file) => file.assertionResults.some(({ status }) => status === 'failed');
  const broken = files.filter((file) => file.status === 'failed' && !failedInside(file));
  const all = files.flatMap((result) =>
    result.assertionResults
      .filter(({ status }) => status === 'passed' || !broken.includes(result))
      .map(({ fullName, status }) => ({ line: `${result.file}: ${fullName}`, status })),
  );
  const passed = all.filter(({ status }) => status === 'passed').length;
  const failed = all.filter(({ status }) => status === 'failed').map(({ line }) => line);
  const skipped = all.filter(({ status }) => !['passed', 'failed'].includes(status)).map(({ line }) => line);
  const tooManySkipped = strict && isRoot && skipped.length > 0;
  list(isRoot ? 'Skipped:' : 'needs root (run npm test as root for these):', skipped);
  list('Failed:', failed);
  list(
    'Test files that failed outside their tests:',
    broken.map(({ file }) => file),
  );
  list('Checks that failed:', failedChecks);
  if (tooManySkipped) process.stdout.write('\nNothing may be skipped here.\n');
  process.stdout.write(`\nAll of it took ${seconds(ms)}.\n`);
  const failures = failed.length + broken.length;
  process.stdout.write(`${passed} passed, ${failures} failed, ${skipped.length} skipped\n`);
  const good = reports.every(({ code }) => code === 0) && failures === 0 && failedChecks.length === 0;
  return good && !tooManySkipped ? 0 : 1;
}

function list(title, lines) {
  if (lines.length > 0) process.stdout.write(`\n${title}\n${lines.map((line) => `  ${line}\n`).join('')}`);
}
