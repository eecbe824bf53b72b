// The checks that are no tests: formatting and lint, the wires' lint, that the generated code is what the wires give, and
// that every requirement that is due has a test. Each says what is wrong in its own words. Called by test.mjs.

import { mkdtemp, readFile, readdir, rm, symlink, mkdir, cp } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { LauncherError, cache, capture, repo, step } from './step.mjs';
import { node, toolchainEnv } from './toolchain.mjs';

const bin = (name) => join(repo, 'node_modules', '.bin', name);
const generated = join('packages', 'rpc', 'src', 'gen');

const checks = [
  ['Lint', () => capture(bin('eslint'), ['.'], { env: toolchainEnv(), tailLines: 60 })],
  ['Types of the tests', testsAreTyped],
  ['Formatting', () => capture(bin('prettier'), ['--check', '.'], { env: toolchainEnv(), tailLines: 40 })],
  ['Wires: lint', () => capture(bin('buf'), ['lint'], { cwd: join(repo, 'proto'), env: toolchainEnv() })],
  ['Wires: generated code is up to date', generatedIsCurrent],
  ['Client: generated code is up to date', clientIsCurrent],
  ['Requirements: every row that is due has a test', requirementsAreProven],
];

/** Runs all checks; returns the names of those that failed, whose reasons were printed. */
export async function runChecks() {
  const failed = [];
  for (const [name, check] of checks) {
    try {
      await step(name, async () => void (await check()));
    } catch (error) {
      if (!(error instanceof LauncherError)) throw error;
      process.stdout.write(`${error.message}\n`);
      failed.push(name);
    }
  }
  return failed;
}

/** The tests hold the types of what they test; they are run without a build, so nothing else would tell. */
function testsAreTyped() {
  return capture(bin('tsc'), ['-p', join(repo, 'tsconfig.tests.json')], {
    env: toolchainEnv(),
    tailLines: 40,
  });
}

/** The client's methods are what the built API's OpenAPI document says. */
function clientIsCurrent() {
  const generator = join(repo, 'tools', 'client', 'generate.mjs');
  return capture(node, [generator, '--check'], { env: toolchainEnv() });
}

/** The table of requirements is what the tests say, and no row is without one that should have it. */
function requirementsAreProven() {
  const table = join(repo, 'tools', 'requirements', 'table.mjs');
  return capture(node, [table, '--check'], { env: toolchainEnv(), tailLines: 40 });
}

/** Generates into a scratch copy and compares, so that a wrong tree is told and not mended in passing. */
async function generatedIsCurrent() {
  await mkdir(cache, { recursive: true });
  const scratch = await mkdtemp(join(cache, 'gen-'));
  try {
    await cp(join(repo, 'proto'), join(scratch, 'proto'), { recursive: true });
    await symlink(join(repo, 'node_modules'), join(scratch, 'node_modules'));
    await capture(bin('buf'), ['generate'], { cwd: join(scratch, 'proto'), env: toolchainEnv() });
    const [fresh, committed] = await Promise.all([
      readTree(join(scratch, generated)),
      readTree(join(repo, generated)),
    ]);
    const names = new Set([...fresh.keys(), ...committed.keys()]);
    const different = [...names].filter((name) => fresh.get(name) !== committed.get(name)).sort();
    if (different.length > 0) {
      throw new LauncherError(`Not what the wires give (npm run gen): ${different.join(', ')}`);
    }
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

async function readTree(root) {
  const files = new Map();
  const entries = await readdir(root, { withFileTypes: true, recursive: true });
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath ?? entry.path ?? dirname(root), entry.name);
    files.set(path.slice(root.length + 1), await readFile(path, 'utf8'));
  }
  return files;
}
