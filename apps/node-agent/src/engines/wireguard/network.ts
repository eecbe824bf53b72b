// Addresses, MTU, forwarding and the firewall of the interface. Everything here may be repeated at any time.
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { z } from 'zod';
import { formatCidr, parseCidr } from '../address.js';
import { run } from '../command.js';
import { applyFirewall, nodeAddresses } from './firewall.js';
import type { FirewallOptions } from './firewall.js';

/** 1,500 less the outer IPv6, UDP and WireGuard headers (80). */
const MTU = 1420;

const linksSchema = z.array(
  z.looseObject({
    addr_info: z.array(z.looseObject({ local: z.string(), prefixlen: z.number(), scope: z.string() })),
  }),
);

/** The firewall stands before the link is up, so no packet passes without it. */
export async function raiseNetwork(options: FirewallOptions): Promise<void> {
  const { interfaceName } = options;
  await applyFirewall(options);
  const wanted = nodeAddresses(options.subnets);
  for (const address of await foreignAddresses(interfaceName, wanted)) {
    await run('ip', ['address', 'delete', address, 'dev', interfaceName]);
  }
  for (const address of wanted) {
    await run('ip', ['address', 'replace', address, 'dev', interfaceName]);
  }
  await run('ip', ['link', 'set', 'dev', interfaceName, 'mtu', String(MTU), 'up']);
  await forward4();
  if (options.subnets.some((subnet) => subnet.family === 6)) await forward6();
}

/** Addresses left from an earlier configuration of an adopted interface. */
async function foreignAddresses(interfaceName: string, wanted: string[]): Promise<string[]> {
  const links = linksSchema.parse(
    JSON.parse(await run('ip', ['-j', 'address', 'show', 'dev', interfaceName])),
  );
  return links
    .flatMap((link) => link.addr_info)
    .filter((info) => info.scope === 'global')
    .map((info) => {
      const cidr = parseCidr(`${info.local}/${info.prefixlen}`);
      return cidr === null ? '' : formatCidr(cidr);
    })
    .filter((text) => text !== '' && !wanted.includes(text));
}

async function forward4(): Promise<void> {
  await setSysctl('/proc/sys/net/ipv4/ip_forward', '1');
}

/** A forwarding host stops listening to router advertisements unless told otherwise, and would lose its own route. */
async function forward6(): Promise<void> {
  const folder = '/proc/sys/net/ipv6/conf';
  for (const name of await readdir(folder)) {
    const path = `${folder}/${name}/accept_ra`;
    if ((await readFile(path, 'utf8')).trim() === '1') await writeFile(path, '2');
  }
  await setSysctl(`${folder}/all/forwarding`, '1');
}

async function setSysctl(path: string, value: string): Promise<void> {
  if ((await readFile(path, 'utf8')).trim() !== value) await writeFile(path, value);
}
