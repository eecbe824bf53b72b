// The list of addresses that sensitive routes are served to, as the operator writes it. Checked alike by control-api,
// which applies it, and by the stack and the CLI, which keep it.
import type { BlockList } from 'node:net';
import { AppError } from '@penstock/domain/errors';
import { parseCidrs } from './ops-server.js';

/** Where the admins of a fresh installation sit: the machine itself and private networks. */
export const PRIVATE_CIDRS: readonly string[] = [
  ...['127.0.0.0/8', '10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '169.254.0.0/16'],
  ...['::1/128', 'fc00::/7', 'fe80::/10'],
];

/** Wider ranges are everybody under another name; fc00::/7 is the widest private one. */
const BITS_MIN = { ipv4: 8, ipv6: 7 };

/** Throws invalid_input for an empty, malformed or too wide list. `text`: CIDRs separated by commas. */
export function parseAdminCidrs(text: string): BlockList {
  const list = parseCidrs(text, 'ADMIN_CIDRS');
  for (const part of text.split(',').map((one) => one.trim())) {
    const least = part.includes(':') ? BITS_MIN.ipv6 : BITS_MIN.ipv4;
    if (Number(part.split('/')[1]) < least) {
      throw new AppError('invalid_input', `ADMIN_CIDRS: ${part} is wider than /${least}`, {
        field: 'ADMIN_CIDRS',
      });
    }
  }
  return list;
}
