// Packages, exactly as the lockfile names them. Done again only when the lockfile, the workspace's list or
// a package's manifest changed. Called by every command of the launcher after the toolchain.

import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { contentDigest, readStamp, writeStamp } from './stamp.mjs';
import { capture, repo, step } from './step.mjs';
import { pnpm, toolchainEnv } from './toolchain.mjs';

const stampName = 'install';

/** Installs from the lockfile when needed. Prints one line. */
export async function ensurePackages() {
  await step('Packages from the lockfile', async () => {
    const digest = await contentDigest(await manifests(), `${process.platform}-${process.arch}`);
    const done = existsSync(join(repo, 'node_modules', '.modules.yaml'));
    if (done && (await readStamp(stampName)) === digest) return 'up to date';
    // CI=true: pnpm asks nothing, also where it wants to replace node_modules.
    await capture(pnpm, ['install', '--frozen-lockfile', '--reporter=append-only'], {
      env: toolchainEnv({ CI: 'true' }),
    });
    await writeStamp(stampName, digest);
    return 'installed';
  });
}

async function manifests() {
  const folders = ['', 'bench', 'test'];
  for (const group of ['apps', 'packages', 'tools']) {
    for (const name of (await readdir(join(repo, group))).sort()) folders.push(join(group, name));
  }
  const files = ['pnpm-lock.yaml', 'pnpm-workspace.yaml', '.npmrc'];
  files.push(...folders.map((folder) => join(folder, 'package.json')));
  return files.filter((file) => existsSync(join(repo, file)));
}
