// Addresses and prefixes as numbers: parsing, containment, canonical text. Pure. Everything that ends in an nft
// script or an ip command went through here, so it cannot carry anything but an address.
import { isIPv4, isIPv6 } from 'node:net';

export type Family = 4 | 6;

export interface Cidr {
  family: Family;
  /** The address as written, host bits included. */
  address: bigint;
  prefix: number;
}

export function addressBits(family: Family): number {
  return family === 4 ? 32 : 128;
}

/** "10.66.0.2/32", "fd00::/64", or an address alone (a full-length prefix). Null for anything else. */
export function parseCidr(text: string): Cidr | null {
  const slash = text.indexOf('/');
  const host = slash < 0 ? text : text.slice(0, slash);
  const family = isIPv4(host) ? 4 : isIPv6(host) && !host.includes('%') ? 6 : null;
  if (family === null) return null;
  const max = addressBits(family);
  const prefixText = slash < 0 ? String(max) : text.slice(slash + 1);
  if (!/^(0|[1-9]\d{0,2})$/.test(prefixText) || Number(prefixText) > max) return null;
  return { family, address: family === 4 ? parse4(host) : parse6(host), prefix: Number(prefixText) };
}

function parse4(text: string): bigint {
  return text.split('.').reduce((sum, part) => (sum << 8n) | BigInt(part), 0n);
}

function parse6(text: string): bigint {
  const dotted = text.includes('.') ? text.slice(text.lastIndexOf(':') + 1) : null;
  let plain = text;
  if (dotted !== null) {
    const low = parse4(dotted);
    plain = `${text.slice(0, text.length - dotted.length)}${(low >> 16n).toString(16)}:${(low & 0xffffn).toString(16)}`;
  }
  const [head = '', tail] = plain.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups = [...left, ...Array<string>(8 - left.length - right.length).fill('0'), ...right];
  return groups.reduce((sum, group) => (sum << 16n) | BigInt(`0x${group}`), 0n);
}

function hostMask(cidr: Cidr): bigint {
  return (1n << BigInt(addressBits(cidr.family) - cidr.prefix)) - 1n;
}

export function networkOf(cidr: Cidr): Cidr {
  return { ...cidr, address: cidr.address & ~hostMask(cidr) };
}

/** The first host of a subnet, with the subnet's prefix: the node's own address on the interface. */
export function firstHost(subnet: Cidr): Cidr {
  return { ...subnet, address: networkOf(subnet).address + 1n };
}

export function contains(subnet: Cidr, inner: Cidr): boolean {
  if (subnet.family !== inner.family || inner.prefix < subnet.prefix) return false;
  return networkOf(subnet).address === (inner.address & ~hostMask(subnet));
}

/** An address that no client may have: the network, the node's own, the IPv4 broadcast. */
export function isReserved(subnet: Cidr, host: Cidr): boolean {
  const first = networkOf(subnet).address;
  const last = first | hostMask(subnet);
  return (
    host.address === first || host.address === first + 1n || (host.family === 4 && host.address === last)
  );
}

export function formatAddress(cidr: Pick<Cidr, 'family' | 'address'>): string {
  if (cidr.family === 4) {
    return [24n, 16n, 8n, 0n].map((shift) => String((cidr.address >> shift) & 255n)).join('.');
  }
  const groups: string[] = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n)
    groups.push(((cidr.address >> shift) & 0xffffn).toString(16));
  // The URL parser writes the canonical short form (RFC 5952).
  return new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1);
}

/** Canonical text, the same for every spelling of one prefix. */
export function formatCidr(cidr: Cidr): string {
  return `${formatAddress(cidr)}/${cidr.prefix}`;
}
