// The wall behind Xray's routing rule. Xray resolves a name for the rule and again when it dials, so a customer with a
// DNS server of his own can show the rule a public address and the dialler 127.0.0.1 (DNS rebinding). Only the kernel
// sees what is really dialled: connections of customers carry a mark, and a table of this engine's own refuses those
// to special ranges and to any address of this machine. It stands before Xray starts and falls only with stop().
import { specialRanges } from '@penstock/domain/special-ranges';
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import { eachFamily, elementsOf, removeTable, renderSet, renderTable, replaceTable } from '../nft.js';
import type { Table } from '../nft.js';
import { egressCidr } from './egress.js';

export interface EgressFirewallOptions {
  /** The engine's runtime directory: table and mark come from it, so several nodes share a machine. */
  dir: string;
  blockPrivateEgress: boolean;
  /** CIDRs that customers may reach all the same, this machine's own addresses included. */
  allowEgress: readonly string[];
}

/** Clear of the bits that container networks and overlay VPNs test with masks (0xffff00 and below 0x0fff_0000). */
const MARK_BASE = 0x5000_0000;
const MARK_BITS = 0x3fff;

/** The socket mark of this engine's customers; the same for the same directory at every start. */
export function egressMark(dir: string): number {
  return MARK_BASE + (digest(dir).readUInt32BE(0) & MARK_BITS);
}

export function egressTableName(dir: string): string {
  return `penstock_xray_${digest(dir).toString('hex', 0, 6)}`;
}

/** The script for `nft -f`. Throws invalid_input naming an allowed prefix that is none. */
export function renderEgressFirewall(options: EgressFirewallOptions): string {
  return renderTable(egressTable(options));
}

function egressTable({ dir, blockPrivateEgress, allowEgress }: EgressFirewallOptions): Table {
  const allowed = allowEgress.map(egressCidr);
  const lines = [
    ...eachFamily((f) =>
      [
        ...renderSet(`allowed${f}`, f, elementsOf(allowed, f)),
        ...renderSet(`blocked${f}`, f, specialRanges(f, blockPrivateEgress)),
      ].join('\n'),
    ),
    'chain from_customers {',
    'type filter hook output priority filter; policy accept;',
    `meta mark != ${egressMark(dir)} accept`,
    // A TCP connection that may not begin never goes on: its later packets need no look.
    'meta l4proto tcp tcp flags & (syn | ack) != syn accept',
    ...eachFamily((f, ip) => `${ip} daddr @allowed${f} accept`),
    'fib daddr type { local, broadcast, anycast } reject',
    ...eachFamily((f, ip) => `${ip} daddr @blocked${f} reject`),
    '}',
  ];
  return { name: egressTableName(dir), lines };
}

/** Puts the table up, or in place of an older one. Throws failed_precondition (no nft) or unavailable. */
export async function raiseEgressFirewall(options: EgressFirewallOptions): Promise<void> {
  await replaceTable(egressTable(options));
}

export async function dropEgressFirewall(dir: string): Promise<void> {
  await removeTable(egressTableName(dir));
}

function digest(dir: string): Buffer {
  return createHash('sha256').update(resolve(dir)).digest();
}
