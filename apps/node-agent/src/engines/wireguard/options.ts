// Options of the WireGuard engine, checked once and turned into numbers.
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import { wireguardKeyBytes, wireguardPublicKey } from '@penstock/domain/wireguard-keys';
import { addressBits, parseCidr } from '../address.js';
import type { Cidr } from '../address.js';
import type { DeviceOptions } from './device.js';
import type { FirewallOptions } from './firewall.js';

export interface EngineLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface WireguardOptions {
  /** Path of wireguard-go, used where the kernel has no WireGuard; null when none was found. */
  wireguardGoBin: string | null;
  /** Runtime directory of this engine alone; made with 0700. Its files survive a restart of the agent. */
  dir: string;
  /** Unique on the machine, over all network namespaces: [a-z][a-z0-9_]*, at most 15 characters. */
  interfaceName: string;
  /** UDP port. */
  listenPort: number;
  /** Standard base64. */
  privateKey: string;
  /** Clients' addresses lie in these; the first address of each is the node's. "10.66.0.0/16", "fd66::/64". */
  subnets: string[];
  /** Closes private ranges to clients. Link-local, metadata, loopback and the node itself are closed anyway. */
  blockPrivateEgress: boolean;
  /** Prefixes that clients may reach although they are private or the node's own. */
  allowEgress: string[];
  clock: Clock;
  log: EngineLog;
}

export interface CheckedOptions {
  device: DeviceOptions;
  firewall: FirewallOptions;
  listenPort: number;
  /** Hex, as all keys inside the driver. */
  privateKey: string;
  publicKey: string;
}

/** Throws invalid_input naming the option. */
export function checkOptions(options: WireguardOptions): CheckedOptions {
  const { interfaceName, listenPort } = options;
  if (!/^[a-z][a-z0-9_]{0,14}$/.test(interfaceName)) {
    throw invalid('interfaceName', 'must be 1 to 15 of a-z, 0-9 and _, starting with a letter');
  }
  if (!Number.isInteger(listenPort) || listenPort < 1 || listenPort > 65_535) {
    throw invalid('listenPort', 'must be a port number');
  }
  const subnets = cidrs(options.subnets, 'subnets');
  if (subnets.length === 0) throw invalid('subnets', 'must name at least one subnet');
  for (const subnet of subnets) {
    if (addressBits(subnet.family) - subnet.prefix < 2) throw invalid('subnets', 'leave no room for clients');
  }
  return {
    device: { wireguardGoBin: options.wireguardGoBin, dir: options.dir, interfaceName },
    firewall: {
      interfaceName,
      subnets,
      blockPrivateEgress: options.blockPrivateEgress,
      allowEgress: cidrs(options.allowEgress, 'allowEgress'),
    },
    listenPort,
    privateKey: wireguardKeyBytes(options.privateKey, 'privateKey').toString('hex'),
    publicKey: Buffer.from(wireguardPublicKey(options.privateKey), 'base64').toString('hex'),
  };
}

function cidrs(texts: string[], field: string): Cidr[] {
  return texts.map((text) => {
    const cidr = parseCidr(text);
    if (cidr === null) throw invalid(field, 'must be prefixes such as 10.66.0.0/16');
    return cidr;
  });
}

function invalid(field: string, what: string): AppError {
  return new AppError('invalid_input', `${field} ${what}`, { field });
}
