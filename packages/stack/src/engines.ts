// The engines of this machine's node: found, else fetched or built, with one line at each turn. Nothing waits for
// them; the agent starts with the first that is there and again when another arrives.
// Called by bin/start.ts in the background and by bin/engines.ts before the tests.
import { mkdir } from 'node:fs/promises';
import { systemClock } from '@penstock/domain/clock';
import { findWireguard, findXray, type Engine, type EngineSearch } from './engine-find.js';
import { buildWireguard, buildXray, fetchXray, findGo, goFloor, type GoSettings } from './engine-get.js';

export type Say = (line: string) => void;

export interface EngineOptions {
  search: EngineSearch;
  go: GoSettings;
  /** WireGuard needs an interface, which only root can make. */
  root: boolean;
  say: Say;
}

const goVersion = goFloor.join('.');

/** Xray, or null with a line that says how to get it. Throws only when XRAY_BIN is wrong. */
export async function provideXray({ search, go, say }: EngineOptions): Promise<Engine | null> {
  const found = await findXray(search);
  if (found !== null) return found;
  await mkdir(search.cache, { recursive: true });
  try {
    await timed('Xray: fetching the official release 26.3.27', say, () => fetchXray(search.cache));
  } catch (error) {
    if ((await findGo(go)) === null) return missing(say, 'Xray', error as Error, xrayHelp);
    try {
      say(`Xray: ${(error as Error).message}`);
      await timed('Xray: building 26.3.27 with Go (about 100 s)', say, () => buildXray(search.cache, go));
    } catch (buildError) {
      return missing(say, 'Xray', buildError as Error, xrayHelp);
    }
  }
  return findXray(search);
}

/** WireGuard, or null with a line that says how to get it. Throws only when WIREGUARD_GO_BIN is wrong. */
export async function provideWireguard({ search, go, root, say }: EngineOptions): Promise<Engine | null> {
  if (!root) {
    say('WireGuard: left out, its interface needs root');
    return null;
  }
  const found = await findWireguard(search, false);
  if (found !== null) return found;
  await mkdir(search.cache, { recursive: true });
  try {
    await timed('WireGuard: building wireguard-go with Go', say, () => buildWireguard(search.cache, go));
    return await findWireguard(search, false);
  } catch (error) {
    const fallback = await findWireguard(search, true);
    if (fallback !== null) return fallback;
    return missing(say, 'WireGuard', error as Error, wireguardHelp);
  }
}

const xrayHelp =
  'put an Xray 26.3.27 or later on PATH, name it with XRAY_BIN, ' +
  `or install Go ${goVersion} and start again`;
const wireguardHelp =
  'install the package wireguard-go, name a wireguard-go with WIREGUARD_GO_BIN, ' +
  `or install Go ${goVersion} and start again`;

function missing(say: Say, name: string, error: Error, help: string): null {
  say(`${name}: missing. ${error.message} To get it: ${help}.`);
  return null;
}

async function timed(what: string, say: Say, work: () => Promise<void>): Promise<void> {
  say(`${what} …`);
  const started = systemClock.monotonic();
  await work();
  say(`${what}: done in ${((systemClock.monotonic() - started) / 1000).toFixed(1)} s`);
}
