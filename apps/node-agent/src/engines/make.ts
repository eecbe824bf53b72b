// Makes the engines of this machine from what the node's configuration says of their inbounds. The only place that
// knows all engines: a new one adds its folder and a line here.
import { join } from 'node:path';
import { z } from 'zod';
import type { Clock } from '@penstock/domain/clock';
import type { Engine as EngineName } from '@penstock/domain/terms';
import type { Inbound } from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import type { Logger } from '@penstock/service/logger';
import type { Config } from '../config.js';
import type { Engine } from './engine.js';
import type { EngineFactory } from './host.js';
import { WireguardEngine } from './wireguard/wireguard.engine.js';
import { XrayEngine } from './xray/xray.engine.js';
import type { XrayInbound } from './xray/config.js';
import { dropEgressFirewall } from './xray/egress-firewall.js';
import { processesOn } from './xray/proc.js';

const xraySettings = z.looseObject({
  security: z.enum(['none', 'reality']),
  privateKey: z.string().optional(),
  shortIds: z.array(z.string()).optional(),
  serverNames: z.array(z.string()).optional(),
  target: z.string().optional(),
});

const wireguardSettings = z.looseObject({ subnets: z.array(z.string()).min(1), privateKey: z.string() });

export interface MakeDeps {
  config: Config;
  clock: Clock;
  log: Logger;
  /** The engine's process was found dead. */
  onDied: (name: EngineName) => void;
}

/** Factories of all engines; one that ENGINES leaves out only ends what an earlier run left. */
export function engineFactories(deps: MakeDeps): ReadonlyMap<EngineName, EngineFactory> {
  const { config } = deps;
  const watched = (engine: Engine): { engine: Engine } => {
    engine.onDied?.(() => deps.onDied(engine.name));
    return { engine };
  };
  const isOn = (name: EngineName): boolean => config.ENGINES.includes(name);
  return new Map<EngineName, EngineFactory>([
    [
      'xray',
      (inbounds) => {
        const bin = config.XRAY_BIN;
        if (isOn('xray') && bin !== undefined) return watched(makeXray(deps, bin, inbounds));
        const problem = isOn('xray')
          ? 'Xray was not found: set XRAY_BIN to a binary of 26.3.27 or newer'
          : 'Xray is not switched on for this node';
        return { problem, endLeftover: () => endLeftoverXray(deps) };
      },
    ],
    [
      'wireguard',
      (inbounds) => {
        const engine = makeWireguard(deps, inbounds[0] as Inbound);
        if (isOn('wireguard')) return watched(engine);
        return {
          problem: 'WireGuard is not switched on for this node',
          endLeftover: () => engine.stop().catch(() => undefined),
        };
      },
    ],
  ]);
}

/** Ends an Xray that an agent with a binary left serving; what it counted since the last read is marked as lost. */
async function endLeftoverXray({ config, onDied }: MakeDeps): Promise<void> {
  const lives = await processesOn(join(config.AGENT_DIR, 'xray', 'config.json'));
  for (const life of lives) process.kill(life.pid, 'SIGKILL');
  // Where nothing was left, or nft cannot be run, there is nothing to take down.
  await dropEgressFirewall(join(config.AGENT_DIR, 'xray')).catch(() => undefined);
  if (lives.length > 0) onDied('xray');
}

function makeXray({ config, clock, log }: MakeDeps, bin: string, inbounds: Inbound[]): XrayEngine {
  return new XrayEngine({
    bin,
    dir: join(config.AGENT_DIR, 'xray'),
    inbounds: inbounds.map(xrayInbound),
    blockPrivateEgress: true,
    allowEgress: config.ALLOW_EGRESS,
    clock,
    log,
  });
}

function xrayInbound(inbound: Inbound): XrayInbound {
  const settings = xraySettings.parse(JSON.parse(inbound.settings));
  const base = { tag: inbound.tag, listen: '0.0.0.0', port: inbound.port };
  if (settings.security === 'none') return { ...base, security: 'none' };
  return {
    ...base,
    security: 'reality',
    reality: {
      privateKey: settings.privateKey ?? '',
      shortIds: settings.shortIds ?? [],
      serverNames: settings.serverNames ?? [],
      target: settings.target ?? '',
    },
  };
}

function makeWireguard({ config, clock, log }: MakeDeps, inbound: Inbound): WireguardEngine {
  const settings = wireguardSettings.parse(JSON.parse(inbound.settings));
  return new WireguardEngine({
    wireguardGoBin: config.WIREGUARD_GO_BIN ?? null,
    dir: join(config.AGENT_DIR, 'wireguard'),
    interfaceName: config.WG_INTERFACE,
    listenPort: inbound.port,
    privateKey: settings.privateKey,
    subnets: settings.subnets,
    blockPrivateEgress: true,
    allowEgress: config.ALLOW_EGRESS,
    clock,
    log,
  });
}
