// The nftables table of one WireGuard interface: what its clients may reach. Clients never reach each other, the
// node's own services, or private, link-local and metadata addresses (but for `allowEgress`); foreign sources are
// dropped in both directions. Rendered whole and replaced in one transaction, so a restart leaves no gap.
// Cutting a customer does not pass here: taking the peer's addresses away over UAPI takes 0.5 ms and stops both
// directions; adding to an nft set means a process (6 ms from Node, 10 on a busy interface) and stops no more.
import { firstHost, formatCidr, networkOf } from './address.js';
import type { Cidr, Family } from './address.js';
import { run } from './command.js';

export interface FirewallOptions {
  /** [a-z][a-z0-9_]*, at most 15 characters. */
  interfaceName: string;
  subnets: Cidr[];
  /** False opens private ranges; link-local (and so metadata), loopback and multicast stay closed. */
  blockPrivateEgress: boolean;
  /** Reachable although private or local; never another client. */
  allowEgress: Cidr[];
}

/** Nothing on the internet; link-local holds the clouds' metadata services. */
const NEVER: Record<Family, string[]> = {
  4: ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/4', '240.0.0.0/4'],
  6: ['::/127', '::ffff:0:0/96', 'fe80::/10', 'ff00::/8'],
};
/** Somebody's inside: RFC 1918, shared address space, unique local (fd00:ec2::254 too), NAT64 and 6to4 to them. */
const PRIVATE: Record<Family, string[]> = {
  4: ['10.0.0.0/8', '100.64.0.0/10', '172.16.0.0/12', '192.0.0.0/24', '192.168.0.0/16'],
  6: ['fc00::/7', '64:ff9b::/96', '64:ff9b:1::/48', '2002::/16'],
};

export function tableName(interfaceName: string): string {
  return `penstock_${interfaceName}`;
}

/** The script for `nft -f`: removes this interface's table if there is one and makes it anew, atomically. */
export function renderFirewall(options: FirewallOptions): string {
  const name = tableName(options.interfaceName);
  const wg = `"${options.interfaceName}"`;
  const families: Family[] = [4, 6];
  const blocked = (f: Family) => [...NEVER[f], ...(options.blockPrivateEgress ? PRIVATE[f] : [])];
  const texts = (cidrs: Cidr[], f: Family) =>
    cidrs.filter((c) => c.family === f).map((c) => formatCidr(networkOf(c)));
  const each = (line: (f: Family, ip: string) => string) =>
    families.map((f) => line(f, f === 4 ? 'ip' : 'ip6'));
  const lines = [
    `table inet ${name} {`,
    ...families.flatMap((f) => [
      ...renderSet(`subnet${f}`, f, texts(options.subnets, f)),
      ...renderSet(`allowed${f}`, f, texts(options.allowEgress, f)),
      ...renderSet(`blocked${f}`, f, blocked(f)),
    ]),
    'chain sources {',
    'type filter hook prerouting priority raw; policy accept;',
    ...each((f, ip) => `iifname ${wg} ${ip} saddr != @subnet${f} drop`),
    ...each((f, ip) => `iifname != { "lo", ${wg} } ${ip} saddr @subnet${f} drop`),
    '}',
    'chain to_node {',
    'type filter hook input priority filter; policy accept;',
    ...each((f, ip) => `iifname ${wg} ${ip} daddr @allowed${f} accept`),
    `iifname ${wg} drop`,
    '}',
    // A customer of another engine on this node must not reach a client through the node either.
    'chain from_node {',
    'type filter hook output priority filter; policy accept;',
    `oifname ${wg} ct state new drop`,
    '}',
    'chain through {',
    'type filter hook forward priority filter; policy accept;',
    `iifname ${wg} oifname ${wg} drop`,
    `iifname ${wg} tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu`,
    `oifname ${wg} tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu`,
    ...each((f, ip) => `iifname ${wg} ${ip} daddr @allowed${f} accept`),
    ...each((f, ip) => `iifname ${wg} ${ip} daddr @blocked${f} drop`),
    `oifname ${wg} ct state established,related accept`,
    `oifname ${wg} drop`,
    '}',
    'chain leaving {',
    'type nat hook postrouting priority srcnat; policy accept;',
    ...each((f, ip) => `${ip} saddr @subnet${f} oifname != ${wg} masquerade`),
    '}',
    '}',
  ];
  return `table inet ${name} {}\ndelete table inet ${name}\n${lines.join('\n')}\n`;
}

function renderSet(name: string, family: Family, elements: string[]): string[] {
  return [
    `set ${name} {`,
    `type ipv${family}_addr`,
    'flags interval',
    'auto-merge',
    ...(elements.length === 0 ? [] : [`elements = { ${elements.join(', ')} }`]),
    '}',
  ];
}

/** Puts the table in place of an older one. */
export async function applyFirewall(options: FirewallOptions): Promise<void> {
  await run('nft', ['-f', '-'], { stdin: renderFirewall(options) });
}

export async function removeFirewall(interfaceName: string): Promise<void> {
  const name = tableName(interfaceName);
  await run('nft', ['-f', '-'], { stdin: `table inet ${name} {}\ndelete table inet ${name}\n` });
}

/** The node's own addresses on the interface, "10.66.0.1/16". */
export function nodeAddresses(subnets: Cidr[]): string[] {
  return subnets.map((subnet) => formatCidr(firstHost(subnet)));
}
