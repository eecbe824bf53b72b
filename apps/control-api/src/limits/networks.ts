// Which network an address belongs to, for limits: an IPv4 address stands for itself; of IPv6 a site has a /64 (one
// network of a home) inside a /48 (what one customer gets), so single addresses mean nothing there.
import { isIPv6 } from 'node:net';

/** One network of a home or a server: an IPv4 address, or the /64 of an IPv6 one; '' when unknown. */
export function networkOf(ip: string | null): string {
  if (ip === null || !ip.includes(':') || !isIPv6(ip)) return ip ?? '';
  return `${groupsOf(ip).slice(0, 4).join(':')}::/64`;
}

/** The /48 of an IPv6 address; null for IPv4. */
export function siteOf(ip: string | null): string | null {
  if (ip === null || !ip.includes(':') || !isIPv6(ip)) return null;
  return `${groupsOf(ip).slice(0, 3).join(':')}::/48`;
}

/** The eight groups, without leading zeros, in lower case. */
function groupsOf(ip: string): string[] {
  const [head = '', tail] = ip.toLowerCase().split('::');
  const front = head === '' ? [] : head.split(':');
  const back = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - front.length - back.length);
  return [...front, ...Array<string>(zeros).fill('0'), ...back].map((group) => group.replace(/^0+(?=.)/, ''));
}
