// Which destinations customers may not reach through this node: private, loopback, link-local, metadata and other
// special ranges, minus what the operator allows. Pure CIDR arithmetic. The allowed part is cut out of the blocked
// ranges rather than let through by a rule of its own: a rule before the cut rules would let a cut customer through.
import { isIP, SocketAddress } from 'node:net';
import { AppError } from '@penstock/domain/errors';

/** Nothing on the internet; link-local and the last one hold the clouds' metadata services. */
const NEVER = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  '240.0.0.0/4',
  '::/127',
  'fe80::/10',
  'ff00::/8',
  '168.63.129.16/32',
];
/** Somebody's inside: RFC 1918, shared address space, unique local (fd00:ec2::254 too), NAT64 and 6to4 to them. */
const PRIVATE = [
  '10.0.0.0/8',
  '100.64.0.0/10',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.168.0.0/16',
  'fc00::/7',
  '64:ff9b::/96',
  '64:ff9b:1::/48',
  '2002::/16',
];

interface Cidr {
  bits: 32 | 128;
  start: bigint;
  prefix: number;
}

export interface EgressRules {
  /** False opens private ranges; loopback, link-local (and so metadata), multicast and own addresses stay closed. */
  blockPrivate: boolean;
  /** CIDRs or addresses that are open all the same. */
  allowed: readonly string[];
  ownAddresses: readonly string[];
}

/** The ranges to block, as CIDRs. Throws invalid_input naming a value that is no address. */
export function blockedEgress({ blockPrivate, allowed, ownAddresses }: EgressRules): string[] {
  const holes = allowed.map(parseCidr);
  const ranges = [...NEVER, ...(blockPrivate ? PRIVATE : []), ...ownAddresses].map(parseCidr);
  return ranges
    .flatMap((range) => holes.reduce((rest, hole) => rest.flatMap((part) => subtract(part, hole)), [range]))
    .map(formatCidr);
}

function parseCidr(text: string): Cidr {
  const [address = '', prefixText, ...rest] = text.split('/');
  const family = isIP(address);
  if (family === 0 || rest.length > 0)
    throw new AppError('invalid_input', `${text} is not an address or CIDR`, { field: 'allowEgress' });
  const bits = family === 4 ? 32 : 128;
  const prefix = prefixText === undefined ? bits : Number(prefixText);
  if (!Number.isInteger(prefix) || prefix < 0 || prefix > bits) {
    throw new AppError('invalid_input', `${text} has a wrong prefix length`, { field: 'allowEgress' });
  }
  const value = family === 4 ? ipv4Value(address) : ipv6Value(address);
  const hostBits = BigInt(bits - prefix);
  return { bits, start: (value >> hostBits) << hostBits, prefix };
}

function ipv4Value(address: string): bigint {
  return address.split('.').reduce((value, part) => (value << 8n) | BigInt(part), 0n);
}

function ipv6Value(address: string): bigint {
  const tail = /(?<=:)\d+\.\d+\.\d+\.\d+$/.exec(address)?.[0];
  const low = tail === undefined ? 0n : ipv4Value(tail);
  const hex =
    tail === undefined
      ? address
      : address.replace(tail, `${(low >> 16n).toString(16)}:${(low & 0xffffn).toString(16)}`);
  const [left = '', right] = hex.split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const head = groups(left);
  const rest = right === undefined ? [] : groups(right);
  const zeros = right === undefined ? 0 : 8 - head.length - rest.length;
  return [...head, ...Array<string>(zeros).fill('0'), ...rest].reduce(
    (value, group) => (value << 16n) | BigInt(`0x${group}`),
    0n,
  );
}

/** `range` without `hole`, as the fewest CIDRs. */
function subtract(range: Cidr, hole: Cidr): Cidr[] {
  if (range.bits !== hole.bits) return [range];
  const shift = BigInt(range.bits - Math.min(range.prefix, hole.prefix));
  if (range.start >> shift !== hole.start >> shift) return [range];
  if (hole.prefix <= range.prefix) return [];
  const prefix = range.prefix + 1;
  const half = 1n << BigInt(range.bits - prefix);
  const halves: Cidr[] = [
    { bits: range.bits, start: range.start, prefix },
    { bits: range.bits, start: range.start + half, prefix },
  ];
  return halves.flatMap((part) => subtract(part, hole));
}

function formatCidr({ bits, start, prefix }: Cidr): string {
  const width = bits === 32 ? 8n : 16n;
  const parts = Array.from(
    { length: bits === 32 ? 4 : 8 },
    (_, index, count = bits === 32 ? 4 : 8) =>
      (start >> (width * BigInt(count - 1 - index))) & ((1n << width) - 1n),
  );
  if (bits === 32) return `${parts.join('.')}/${prefix}`;
  const address = parts.map((part) => part.toString(16)).join(':');
  return `${new SocketAddress({ address, family: 'ipv6' }).address}/${prefix}`;
}
