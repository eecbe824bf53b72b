// The compiled product (`dist` of each package). Skipped when no source file changed since the last good
// build; the compiler itself builds only what changed. Called by every command of the launcher.

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readStamp, treeDigest, writeStamp } from './stamp.mjs';
import { capture, repo, step } from './step.mjs';
import { node, toolchainEnv } from './toolchain.mjs';

const stampName = 'build';
const folders = ['apps', 'packages', 'bench', 'test', 'tools'];
const isSource = (path) => /\.(ts|tsx|json)$/.test(path) && !path.endsWith('.test.ts');

/** Compiles the workspace when needed. Prints one line. */
export async function ensureBuilt() {
  await step('Build', async () => {
    const salt = await readFile(join(repo, 'tsconfig.json'), 'utf8');
    const base = await readFile(join(repo, 'tsconfig.base.json'), 'utf8');
    const digest = await treeDigest(folders, isSource, salt + base);
    if ((await readStamp(stampName)) === digest && (await builtProjects(salt))) return 'up to date';
    await capture(node, [join(repo, 'node_modules', 'typescript', 'bin', 'tsc'), '-b'], {
      env: toolchainEnv(),
      tailLines: 40,
    });
    await writeStamp(stampName, digest);
    return 'compiled';
  });
}

/** True when every referenced project has its output: somebody may have removed a `dist`. */
async function builtProjects(rootConfig) {
  const { references = [] } = JSON.parse(rootConfig);
  return references.every(({ path }) => existsSync(join(repo, path, 'dist')));
}
