// nftables for the engines: each has one table of its own, replaced whole in one transaction, so a restart leaves no
// gap. Pure text above, the one effect below; `nft` reads the script from stdin.
import { formatCidr, networkOf } from './address.js';
import type { Cidr, Family } from './address.js';
import { run } from './command.js';

/** A table of both families and what stands in it, a line each. The name is [a-z][a-z0-9_]*. */
export interface Table {
  name: string;
  lines: string[];
}

/** The script that removes this table if there is one and makes it anew, atomically. */
export function renderTable({ name, lines }: Table): string {
  return `${renderRemoval(name)}${[`table inet ${name} {`, ...lines, '}'].join('\n')}\n`;
}

/** `delete` fails for a table that is not there, so it is made first. */
function renderRemoval(name: string): string {
  return `table inet ${name} {}\ndelete table inet ${name}\n`;
}

/** A named set of prefixes of one family. */
export function renderSet(name: string, family: Family, elements: readonly string[]): string[] {
  return [
    `set ${name} {`,
    `type ipv${family}_addr`,
    'flags interval',
    'auto-merge',
    ...(elements.length === 0 ? [] : [`elements = { ${elements.join(', ')} }`]),
    '}',
  ];
}

/** Elements of a set: the prefixes of that family without host bits. */
export function elementsOf(cidrs: readonly Cidr[], family: Family): string[] {
  return cidrs.filter((cidr) => cidr.family === family).map((cidr) => formatCidr(networkOf(cidr)));
}

/** One line for each family; `ip` is its keyword. */
export function eachFamily(line: (family: Family, ip: string) => string): string[] {
  return [line(4, 'ip'), line(6, 'ip6')];
}

/** Puts the table in place of an older one. Throws failed_precondition (no nft) or unavailable (it refused). */
export async function replaceTable(table: Table): Promise<void> {
  await run('nft', ['-f', '-'], { stdin: renderTable(table) });
}

/** Safe to call when there is none. Throws like replaceTable. */
export async function removeTable(name: string): Promise<void> {
  await run('nft', ['-f', '-'], { stdin: renderRemoval(name) });
}
