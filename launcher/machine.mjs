// What the tests need of the machine: Debian's packages (installed as root), and the engines. A piece that cannot
// be had is named; under CI=true that is a failure, otherwise the tests that need it are skipped and listed.
// Called by test.mjs.

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { LauncherError, capture, repo, runCaptured, step, toolEnv } from './step.mjs';
import { node, toolchainEnv } from './toolchain.mjs';

/** Package → a program of it. */
const packages = {
  'wireguard-tools': 'wg',
  'wireguard-go': 'wireguard-go',
  iproute2: 'ip',
  nftables: 'nft',
  'redis-server': 'redis-server',
  caddy: 'caddy',
  iperf3: 'iperf3',
  chromium: 'chromium',
};

export const isRoot = process.getuid?.() === 0;

/** Installs what is missing where that is possible; returns the packages that are still missing. */
export async function ensureSystemPackages() {
  let missing = missingPackages();
  if (missing.length === 0) return [];
  if (!isRoot || !(await isDebian())) return missing;
  await step(`Packages of the system: ${missing.join(' ')}`, async () => {
    const env = toolEnv({ DEBIAN_FRONTEND: 'noninteractive', NEEDRESTART_MODE: 'l' });
    const install = ['install', '-y', '-q', '--no-install-recommends', ...missing];
    // The lists may be old or absent: asked for again only when they do not do.
    await capture('apt-get', install, { env }).catch(async () => {
      await capture('apt-get', ['update', '-q'], { env });
      await capture('apt-get', install, { env });
    });
  }).catch((error) => process.stdout.write(`${error.message}\n`));
  missing = missingPackages();
  return missing;
}

/** Environment that names the engines for the tests, and what could not be had. */
export async function ensureEngines() {
  const entry = join(repo, 'packages', 'stack', 'dist', 'bin', 'engines.js');
  const env = {};
  const missing = [];
  await step('Engines', async () => {
    const { code, stdout, stderr } = await runCaptured(node, [entry], {
      env: toolchainEnv(),
      echoErrors: true,
    });
    if (code !== 0) throw new LauncherError(`The engines could not be looked for.\n${stderr.trim()}`);
    const found = JSON.parse(stdout.trim().split('\n').at(-1));
    if (found.xray === null) missing.push('Xray');
    else env.XRAY_BIN = found.xray;
    if (found.wireguard === null) missing.push('WireGuard');
    else if (found.wireguard !== 'kernel') env.WIREGUARD_GO_BIN = found.wireguard;
    return `Xray ${found.xray ?? 'missing'}, WireGuard ${found.wireguard ?? 'missing'}`;
  });
  return { env, missing };
}

function missingPackages() {
  // Debian keeps these in sbin, which a plain user's PATH lacks.
  const directories = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/sbin'];
  return Object.entries(packages)
    .filter(([, program]) => !directories.some((directory) => existsSync(join(directory, program))))
    .map(([name]) => name);
}

async function isDebian() {
  return /^ID(_LIKE)?=.*debian/m.test(await readFile('/etc/os-release', 'utf8').catch(() => ''));
}
