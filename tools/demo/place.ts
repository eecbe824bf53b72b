// What this machine allows: namespaces for customers and origin where root may make them, else loopback; which engines
// there are. Whatever cannot be shown here is said, not passed over. Called by main.ts before anything is started.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '@penstock/domain/errors';
import type { Engine } from '@penstock/domain/terms';
import type { StartConfig } from '@penstock/stack/config';
import { buildWireguard } from '@penstock/stack/engine-get';
import { engineOptions } from '@penstock/stack/engine-options';
import { provideWireguard, provideXray, type EngineOptions, type Say } from '@penstock/stack/engines';
import { canUseNetns, createNamespace, sweepNamespaces } from '@penstock/testkit/netns/netns';

const CAP_NET_ADMIN = 12n;

export interface Place {
  engines: readonly Engine[];
  /** Customers and origin have machines of their own; false: everything on loopback. */
  namespaces: boolean;
  xrayBin: string;
  /** What the node runs; undefined: WireGuard of the kernel, or none. */
  nodeWireguardBin: string | undefined;
  /** wireguard-go of the customers' devices; empty where there is no WireGuard. */
  deviceWireguardBin: string;
  /** Sockets can be destroyed here, so a cut can be proven. */
  canEndSessions: boolean;
  /** One sentence each. */
  notShown: readonly string[];
}

/** Throws failed_precondition with one clear sentence where not even Xray can be had. */
export async function surveyPlace(config: StartConfig, say: Say): Promise<Place> {
  const namespaces = await namespacesWork();
  const options: EngineOptions = { ...engineOptions(config, say), root: namespaces };
  const notShown: string[] = [];
  const canEndSessions = hasNetAdmin();
  if (!namespaces) {
    notShown.push(
      'WireGuard, and customers with machines of their own, which need root (sudo npm run demo).',
    );
  }
  if (!canEndSessions) {
    notShown.push('the end of the open session, which needs CAP_NET_ADMIN; the node must say “unproven”.');
  }
  const wireguard = namespaces ? await provideWireguard(options) : null;
  if (namespaces && wireguard === null) notShown.push('WireGuard: there is no wireguard-go, see above.');
  const xray = await provideXray(options);
  if (xray?.path === undefined) {
    throw new AppError('failed_precondition', 'The demo needs an Xray; see above how to get one.');
  }
  const deviceWireguardBin = wireguard === null ? '' : (wireguard.path ?? (await deviceProgram(options)));
  const engines: Engine[] = deviceWireguardBin === '' ? ['xray'] : ['xray', 'wireguard'];
  say(`Engines: ${xray.note}${wireguard === null ? '' : ` and ${wireguard.note}`}`);
  return {
    engines,
    namespaces,
    xrayBin: xray.path,
    nodeWireguardBin: wireguard?.path,
    deviceWireguardBin,
    canEndSessions,
    notShown,
  };
}

/** Being root is not enough in a container: one is made and removed. */
async function namespacesWork(): Promise<boolean> {
  if (!canUseNetns()) return false;
  try {
    await sweepNamespaces();
    await (await createNamespace({ range: 'customer' })).destroy();
    return true;
  } catch {
    return false;
  }
}

/** Where the node uses the kernel's WireGuard, the customers' devices are wireguard-go all the same. */
async function deviceProgram({ search, go }: EngineOptions): Promise<string> {
  const built = join(search.cache, 'wireguard-go');
  const known = [search.wireguardGoBin, built, '/usr/bin/wireguard-go'].find(
    (path) => path !== undefined && existsSync(path),
  );
  if (known !== undefined) return known;
  await buildWireguard(search.cache, go);
  return built;
}

function hasNetAdmin(): boolean {
  if (process.platform !== 'linux') return false;
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
  return ((BigInt(`0x${effective}`) >> CAP_NET_ADMIN) & 1n) === 1n;
}
