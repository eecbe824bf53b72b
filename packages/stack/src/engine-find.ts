// Which engines' programs this machine has. Order: the one that is named, PATH, the clone's cache; for WireGuard
// the kernel before all. Debian's wireguard-go is found last: the build of the pinned module is 3–4 times faster.
// Only looks; engine-get.ts fetches or builds what is missing. Called by engines.ts.
import { execFile } from 'node:child_process';
import { access, constants, stat } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { AppError } from '@penstock/domain/errors';

const run = promisify(execFile);
const probeTimeoutMs = 10_000;

/** Oldest Xray that has every API call that the agent uses. */
export const xrayFloor = [26, 3, 27] as const;

export interface Engine {
  name: 'xray' | 'wireguard';
  /** Undefined: WireGuard of the kernel. */
  path: string | undefined;
  /** For people: version and where it comes from. */
  note: string;
}

export interface EngineSearch {
  /** XRAY_BIN, WIREGUARD_GO_BIN: must be right when given. */
  xrayBin?: string | undefined;
  wireguardGoBin?: string | undefined;
  /** PATH as the operator has it. */
  path: string;
  /** `.cache/engines` of the clone. */
  cache: string;
}

/** Null when there is none; throws failed_precondition when the named one is missing or too old. */
export async function findXray(search: EngineSearch): Promise<Engine | null> {
  if (search.xrayBin !== undefined) {
    const version = await xrayVersion(search.xrayBin);
    if (version === null) throw notThere('XRAY_BIN', search.xrayBin, 'Xray 26.3.27 or later');
    return { name: 'xray', path: search.xrayBin, note: `Xray ${version} (XRAY_BIN)` };
  }
  for (const [directory, origin] of places(search)) {
    const path = join(directory, 'xray');
    const version = await xrayVersion(path);
    if (version !== null) return { name: 'xray', path, note: `Xray ${version} (${origin})` };
  }
  return null;
}

/** As findXray. `asFallback` also takes the distribution's own wireguard-go. */
export async function findWireguard(search: EngineSearch, asFallback: boolean): Promise<Engine | null> {
  if (search.wireguardGoBin !== undefined) {
    if (!(await isProgram(search.wireguardGoBin))) {
      throw notThere('WIREGUARD_GO_BIN', search.wireguardGoBin, 'wireguard-go');
    }
    return { name: 'wireguard', path: search.wireguardGoBin, note: 'wireguard-go (WIREGUARD_GO_BIN)' };
  }
  if (await kernelHasWireguard())
    return { name: 'wireguard', path: undefined, note: 'WireGuard of the kernel' };
  for (const [directory, origin] of places(search)) {
    const ofDistribution = directory === '/usr/bin' || directory === '/bin';
    if (ofDistribution && !asFallback) continue;
    const path = join(directory, 'wireguard-go');
    if (await isProgram(path)) return { name: 'wireguard', path, note: `wireguard-go (${origin})` };
  }
  return null;
}

/** `26.3.27` of a program that is an Xray of the floor or later; else null. */
export async function xrayVersion(path: string): Promise<string | null> {
  if (!(await isProgram(path))) return null;
  try {
    const { stdout } = await run(path, ['version'], { timeout: probeTimeoutMs });
    const match = /^Xray (\d+)\.(\d+)\.(\d+)/.exec(stdout);
    if (match === null) return null;
    const parts = match.slice(1).map(Number);
    return atLeast(parts, xrayFloor) ? parts.join('.') : null;
  } catch {
    return null;
  }
}

/** Compares version numbers part by part. */
export function atLeast(parts: readonly number[], floor: readonly number[]): boolean {
  for (const [index, wanted] of floor.entries()) {
    const part = parts[index] ?? 0;
    if (part !== wanted) return part > wanted;
  }
  return true;
}

function places(search: EngineSearch): [directory: string, origin: string][] {
  const onPath = search.path.split(delimiter).filter((directory) => directory.startsWith('/'));
  return [...onPath.map((directory): [string, string] => [directory, 'PATH']), [search.cache, '.cache']];
}

async function isProgram(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    return (await stat(path)).isFile();
  } catch {
    return false;
  }
}

function notThere(variable: string, path: string, what: string): AppError {
  return new AppError('failed_precondition', `${variable} names ${path}, which is not ${what}.`);
}

/** The module is loaded, built in, or can be loaded. Root only: others cannot make an interface anyway. */
async function kernelHasWireguard(): Promise<boolean> {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return false;
  const loaded = await stat('/sys/module/wireguard').catch(() => null);
  if (loaded !== null) return true;
  const found = await run('modprobe', ['wireguard'], { timeout: probeTimeoutMs }).catch(() => null);
  return found !== null && (await stat('/sys/module/wireguard').catch(() => null)) !== null;
}
