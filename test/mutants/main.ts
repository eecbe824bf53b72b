// `npm run test:mutants`: breaks one promise at a time and shows that its named test finds it. A mutant is a small
// patch in patches/, whose head says what it breaks, which test file must turn red, and which test in it:
//
//   Breaks: acknowledges a frame before it is committed
//   File: apps/collector/src/collector.test.ts
//   Test: a frame is acknowledged after its commit only
//
// The patch is applied in a copy of the checkout, built, and the test is run: it must fail there, and it must be one
// that passes without the patch (once a file). A promise without a mutant is not proven.
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '../..');
const patches = join(import.meta.dirname, 'patches');
const TEST_TIMEOUT_MS = 8 * 60_000;
const only = process.argv.slice(2).filter((arg) => !arg.startsWith('-'));

interface Mutant {
  name: string;
  path: string;
  breaks: string;
  file: string;
  test: string;
}

function readMutant(file: string): Mutant {
  const path = join(patches, file);
  const text = readFileSync(path, 'utf8');
  const field = (key: string): string => {
    const value = new RegExp(`^${key}: (.+)$`, 'm').exec(text)?.[1];
    if (value === undefined) throw new Error(`${file} does not say ${key}`);
    return value.trim();
  };
  return {
    name: file.replace(/\.patch$/, ''),
    path,
    breaks: field('Breaks'),
    file: field('File'),
    test: field('Test'),
  };
}

function command(
  cwd: string,
  file: string,
  args: string[],
  timeout = 10 * 60_000,
): { ok: boolean; output: string } {
  const result = spawnSync(file, args, {
    cwd,
    encoding: 'utf8',
    timeout,
    env: { ...process.env, CI: 'true' },
  });
  return { ok: result.status === 0, output: `${result.stdout}${result.stderr}` };
}

/** The tracked files with this checkout's packages and build; packages inside are linked to the copy. */
function copyCheckout(): string {
  const copy = mkdtempSync(join(tmpdir(), 'penstock-mutants-'));
  const { output } = command(root, 'git', ['ls-files', '--cached', '--others', '--exclude-standard']);
  for (const file of output.split('\n').filter((line) => line !== '' && existsSync(join(root, line)))) {
    mkdirSync(join(copy, file, '..'), { recursive: true });
    cpSync(join(root, file), join(copy, file));
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  for (const kind of ['apps', 'packages', 'tools', 'bench']) {
    for (const name of kind === 'bench' ? ['.'] : readdirSync(join(root, kind))) {
      const from = join(root, kind, name);
      for (const part of ['dist', 'tsconfig.tsbuildinfo']) {
        if (existsSync(join(from, part)))
          cpSync(join(from, part), join(copy, kind, name, part), { recursive: true });
      }
      // Links of the workspace are relative, so a copied node_modules leads to the copy's own packages.
      if (existsSync(join(from, 'node_modules'))) {
        cpSync(join(from, 'node_modules'), join(copy, kind, name, 'node_modules'), {
          recursive: true,
          verbatimSymlinks: true,
        });
      }
    }
  }
  return copy;
}

/** A test that was skipped (no engine, no root) proves nothing: only one that ran and passed does. */
function runTest(copy: string, mutant: Mutant): { ok: boolean; ran: boolean } {
  const pattern = mutant.test.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const report = join(copy, 'mutant-report.json');
  rmSync(report, { force: true });
  const { ok } = command(
    copy,
    process.execPath,
    [
      ...[vitest, 'run', mutant.file, '-t', pattern, '--passWithNoTests=false'],
      ...['--reporter=json', `--outputFile.json=${report}`],
    ],
    TEST_TIMEOUT_MS,
  );
  const passed = existsSync(report)
    ? (JSON.parse(readFileSync(report, 'utf8')) as { numPassedTests: number }).numPassedTests
    : 0;
  return { ok: ok && passed > 0, ran: !ok || passed > 0 };
}

function build(copy: string): { ok: boolean; output: string } {
  return command(copy, process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-b']);
}

const mutants = readdirSync(patches)
  .filter((file) => file.endsWith('.patch'))
  .sort()
  .map(readMutant)
  .filter((mutant) => only.length === 0 || only.includes(mutant.name));

const copy = copyCheckout();
let found = 0;
const missed: string[] = [];
try {
  const first = build(copy);
  if (!first.ok) throw new Error(`the copy does not build: ${first.output.slice(0, 2000)}`);
  const sound = new Map<string, boolean>();
  for (const mutant of mutants) {
    const key = `${mutant.file} ${mutant.test}`;
    if (!sound.has(key)) sound.set(key, runTest(copy, mutant).ok);
    if (sound.get(key) !== true) {
      missed.push(`${mutant.name}: its test does not run and pass here without the mutant`);
      continue;
    }
    const applied = command(copy, 'patch', ['-p1', '--no-backup-if-mismatch', '-i', mutant.path]);
    if (!applied.ok) {
      missed.push(`${mutant.name}: the patch does not apply any more`);
      continue;
    }
    const built = build(copy);
    const red = built.ok && ((result) => result.ran && !result.ok)(runTest(copy, mutant));
    if (!built.ok) missed.push(`${mutant.name}: does not compile`);
    else if (!red) missed.push(`${mutant.name}: not found by "${mutant.test}"`);
    else found += 1;
    process.stdout.write(`${red ? 'found ' : 'MISSED'}  ${mutant.name}: ${mutant.breaks}\n`);
    command(copy, 'patch', ['-R', '-p1', '--no-backup-if-mismatch', '-i', mutant.path]);
    build(copy);
  }
} finally {
  rmSync(copy, { recursive: true, force: true });
}
for (const line of missed) process.stdout.write(`${line}\n`);
process.stdout.write(`${found} passed, ${missed.length} failed\n`);
process.exitCode = missed.length === 0 && found > 0 ? 0 : 1;
