// One spelling for each address: IPv4 as it is, also where a dual-stack socket or a proxy wrote it as IPv6; IPv6
// compressed and without a zone. What is no address is nobody's: null, which no list allows. Pure.
import { BlockList, isIP, SocketAddress } from 'node:net';

const MAPPED = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;

export function clientAddress(text: string | undefined): string | null {
  if (text === undefined) return null;
  const mapped = MAPPED.exec(text)?.[1];
  const bare = mapped ?? (text.includes('%') ? text.slice(0, text.indexOf('%')) : text);
  const family = isIP(bare);
  if (family === 0) return null;
  if (family === 4) return bare;
  const { address } = new SocketAddress({ address: bare, family: 'ipv6' });
  return MAPPED.exec(address)?.[1] ?? address;
}

/** True when the address is in the list; an unknown one never is. */
export function isIn(list: BlockList, address: string | null): boolean {
  if (address === null) return false;
  return list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
}
