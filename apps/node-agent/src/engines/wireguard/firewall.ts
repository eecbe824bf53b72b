// The nftables table of one WireGuard interface: what its clients may reach. Clients never reach each other, the
// node's own services, or private, link-local and metadata addresses (but for `allowEgress`); foreign sources are
// dropped in both directions. Rendered whole and replaced in one transaction, so a restart leaves no gap.
// Cutting a customer does not pass here: taking the peer's addresses away over UAPI takes 0.5 ms and stops both
// directions; adding to an nft set means a process (6 ms from Node, 10 on a busy interface) and stops no more.
import { specialRanges } from '@penstock/domain/special-ranges';
import { firstHost, formatCidr } from '../address.js';
import type { Cidr, Family } from '../address.js';
import { eachFamily, elementsOf, removeTable, renderSet, renderTable, replaceTable } from '../nft.js';
import type { Table } from '../nft.js';

export interface FirewallOptions {
  /** [a-z][a-z0-9_]*, at most 15 characters. */
  interfaceName: string;
  subnets: Cidr[];
  /** False opens private ranges; link-local (and so metadata), loopback and multicast stay closed. */
  blockPrivateEgress: boolean;
  /** Reachable although private or local; never another client. */
  allowEgress: Cidr[];
}

export function tableName(interfaceName: string): string {
  return `penstock_${interfaceName}`;
}

/** The script for `nft -f`: removes this interface's table if there is one and makes it anew, atomically. */
export function renderFirewall(options: FirewallOptions): string {
  return renderTable(firewallTable(options));
}

function firewallTable(options: FirewallOptions): Table {
  const wg = `"${options.interfaceName}"`;
  const families: Family[] = [4, 6];
  const each = eachFamily;
  const lines = [
    ...families.flatMap((f) => [
      ...renderSet(`subnet${f}`, f, elementsOf(options.subnets, f)),
      ...renderSet(`allowed${f}`, f, elementsOf(options.allowEgress, f)),
      ...renderSet(`blocked${f}`, f, specialRanges(f, options.blockPrivateEgress)),
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
  ];
  return { name: tableName(options.interfaceName), lines };
}

/** Puts the table in place of an older one. */
export async function applyFirewall(options: FirewallOptions): Promise<void> {
  await replaceTable(firewallTable(options));
}

export async function removeFirewall(interfaceName: string): Promise<void> {
  await removeTable(tableName(interfaceName));
}

/** The node's own addresses on the interface, "10.66.0.1/16". */
export function nodeAddresses(subnets: Cidr[]): string[] {
  return subnets.map((subnet) => formatCidr(firstHost(subnet)));
}
