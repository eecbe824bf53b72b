// Stamps: a step that was done for exactly these inputs is not done again. A stamp is the digest of the
// inputs, written after the step succeeded, so an interrupted step is repeated.
// Called by install.mjs and build.mjs.

import { createHash } from 'node:crypto';
import { mkdir, readFile, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cache, repo } from './step.mjs';

const skippedNames = new Set(['node_modules', 'dist', '.cache', '.penstock', 'coverage']);

/** Digest over the content of a few files (paths relative to the clone). */
export async function contentDigest(files, salt = '') {
  const hash = createHash('sha256').update(salt);
  for (const file of files) hash.update(`${file}\0`).update(await readFile(join(repo, file)));
  return hash.digest('hex');
}

/** Digest over name, size and time of every source file below `folders`; cheap enough for each start. */
export async function treeDigest(folders, wanted, salt = '') {
  const lines = [];
  const walk = async (folder) => {
    const entries = await readdir(join(repo, folder), { withFileTypes: true }).catch(() => []);
    for (const entry of entries) {
      if (skippedNames.has(entry.name)) continue;
      const path = join(folder, entry.name);
      if (entry.isDirectory()) await walk(path);
      else if (wanted(path)) {
        const { size, mtimeMs } = await stat(join(repo, path));
        lines.push(`${path} ${size} ${mtimeMs}`);
      }
    }
  };
  await Promise.all(folders.map(walk));
  return createHash('sha256').update(salt).update(lines.sort().join('\n')).digest('hex');
}

export async function readStamp(name) {
  return readFile(join(cache, 'stamps', name), 'utf8').catch(() => '');
}

export async function writeStamp(name, digest) {
  await mkdir(join(cache, 'stamps'), { recursive: true });
  await writeFile(join(cache, 'stamps', name), digest);
}
