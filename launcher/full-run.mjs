// docs/full-run.md: what `npm run test:full` said last, and of which revision. Written by test.mjs after every full run,
// to be committed with it; of a run with a filter it says so. Loaded when the packages are there.

import { execFileSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { format } from 'prettier';
import { repo } from './step.mjs';

const file = join(repo, 'docs', 'full-run.md');

const git = (...args) => execFileSync('git', args, { cwd: repo, encoding: 'utf8' }).trim();

/** The revision, or that the tree was another than any revision. The record itself does not count. */
function revision() {
  try {
    const changed = git('status', '--porcelain', '--untracked-files=no', '--', '.', ':!docs/full-run.md');
    return `${git('rev-parse', 'HEAD')}${changed === '' ? '' : ' with changes that are not committed'}`;
  } catch {
    return 'unknown (no git here)';
  }
}

/** A row for one test file of a report of the runner. */
function row({ file: name, assertionResults, startTime, endTime, status }) {
  const count = (wanted) => assertionResults.filter((result) => result.status === wanted).length;
  const [passed, failed] = [count('passed'), count('failed')];
  const broken = status === 'failed' && failed === 0 ? 1 : 0;
  const skipped = assertionResults.length - passed - failed;
  const took = ((endTime - startTime) / 1000).toFixed(1);
  return { passed, failed: failed + broken, skipped, cells: [name, passed, failed + broken, skipped, took] };
}

/**
 * `files`: the runner's results with `file` (path in the repository, with what tells its run apart), `filters`: what the
 * names of the files had to hold, `failedChecks`: names.
 */
export async function recordFullRun({ files, filters, failedChecks }) {
  const rows = files.map(row).sort((a, b) => (a.cells[0] < b.cells[0] ? -1 : 1));
  const sum = (field) => rows.reduce((total, one) => total + one[field], 0);
  const [cpu] = cpus();
  const lines = [
    '# The last full run',
    '',
    '`npm run test:full` runs all tests with their full counts and writes this file. Do not edit it by hand.',
    '',
    `- Revision: ${revision()}`,
    `- When: ${new Date().toISOString()}`,
    `- Machine: ${cpus().length} × ${cpu?.model ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB`,
    `- Files: ${filters.length === 0 ? 'all' : `only those whose path holds ${filters.map((one) => `\`${one}\``).join(', ')}`}`,
    `- Checks: ${filters.length > 0 ? 'not run' : failedChecks.length === 0 ? 'passed' : `failed: ${failedChecks.join(', ')}`}`,
    `- **${sum('passed')} passed, ${sum('failed')} failed, ${sum('skipped')} skipped**`,
    '',
    '| File | passed | failed | skipped | seconds |',
    '| --- | --- | --- | --- | --- |',
    ...rows.map(({ cells }) => `| ${cells.join(' | ')} |`),
    '',
  ];
  await writeFile(file, await format(lines.join('\n'), { parser: 'markdown' }));
}
