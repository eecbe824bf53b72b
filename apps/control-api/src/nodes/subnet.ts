// Subnets that devices may get addresses from: private ranges only, so that no customer takes over somebody's
// address. Pure.
import { BlockList, isIP } from 'node:net';

const privateRanges = new BlockList();
for (const [base, bits] of [
  ['10.0.0.0', 8],
  ['172.16.0.0', 12],
  ['192.168.0.0', 16],
  ['100.64.0.0', 10],
] as const) {
  privateRanges.addSubnet(base, bits, 'ipv4');
}
privateRanges.addSubnet('fc00::', 7, 'ipv6');

const CIDR = /^([0-9a-fA-F.:]{2,39})\/(\d{1,3})$/;

/** The subnet in its plain form, or null when it is none, is not private or is too small or large. */
export function parseSubnet(text: string): string | null {
  const [, base = '', bits = ''] = CIDR.exec(text) ?? [];
  const prefix = Number(bits);
  switch (isIP(base)) {
    case 4:
      if (prefix < 8 || prefix > 30 || !privateRanges.check(base, 'ipv4')) return null;
      return (ipv4Number(base) & (2 ** (32 - prefix) - 1)) === 0 ? `${base}/${prefix}` : null;
    case 6:
      if (prefix < 32 || prefix > 126 || !privateRanges.check(base, 'ipv6')) return null;
      return `${base.toLowerCase()}/${prefix}`;
    default:
      return null;
  }
}

function ipv4Number(text: string): number {
  return text.split('.').reduce((sum, part) => ((sum << 8) | Number(part)) >>> 0, 0);
}
