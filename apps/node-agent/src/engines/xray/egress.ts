// Which destinations customers may not reach through this node: private, loopback, link-local, metadata and other
// special ranges, minus what the operator allows. Pure CIDR arithmetic. The allowed part is cut out of the blocked
// ranges rather than let through by a rule of its own: a rule before the cut rules would let a cut customer through.
import { AppError } from '@penstock/domain/errors';
import { specialRanges } from '@penstock/domain/special-ranges';
import { addressBits, formatCidr, networkOf, parseCidr } from '../address.js';
import type { Cidr } from '../address.js';

/** Xray turns a mapped address into the IPv4 one it stands for before any rule, and takes no such prefix. */
const MAPPED = '::ffff:0:0/96';

export interface EgressRules {
  /** False opens private ranges; loopback, link-local (and so metadata), multicast and own addresses stay closed. */
  blockPrivate: boolean;
  /** CIDRs or addresses that are open all the same. */
  allowed: readonly string[];
  ownAddresses: readonly string[];
}

/** The ranges to block, as CIDRs. Throws invalid_input naming a value that is no address. */
export function blockedEgress({ blockPrivate, allowed, ownAddresses }: EgressRules): string[] {
  const holes = allowed.map(egressCidr);
  const special = [...specialRanges(4, blockPrivate), ...specialRanges(6, blockPrivate)];
  const ranges = [...special.filter((range) => range !== MAPPED), ...ownAddresses].map(egressCidr);
  return ranges
    .flatMap((range) => holes.reduce((rest, hole) => rest.flatMap((part) => subtract(part, hole)), [range]))
    .map(formatCidr);
}

/** The prefix without host bits. Throws invalid_input naming a value that is no address. */
export function egressCidr(text: string): Cidr {
  const cidr = parseCidr(text);
  if (cidr === null)
    throw new AppError('invalid_input', `${text} is not an address or CIDR`, { field: 'allowEgress' });
  return networkOf(cidr);
}

/** `range` without `hole`, as the fewest CIDRs. */
function subtract(range: Cidr, hole: Cidr): Cidr[] {
  if (range.family !== hole.family) return [range];
  const bits = addressBits(range.family);
  const shift = BigInt(bits - Math.min(range.prefix, hole.prefix));
  if (range.address >> shift !== hole.address >> shift) return [range];
  if (hole.prefix <= range.prefix) return [];
  const prefix = range.prefix + 1;
  const half = 1n << BigInt(bits - prefix);
  const halves: Cidr[] = [
    { ...range, prefix },
    { ...range, address: range.address + half, prefix },
  ];
  return halves.flatMap((part) => subtract(part, hole));
}
