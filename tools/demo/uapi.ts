// The control socket of wireguard-go, read by the demo itself: the node's device and the customers' own.
// Called by figures.ts and, in the customers' namespaces, by client.ts.
import { createConnection } from 'node:net';

export interface PeerCounters {
  rxBytes: bigint;
  txBytes: bigint;
}

const REPLY_TIMEOUT_MS = 3_000;

export function uapiSocket(interfaceName: string): string {
  return `/var/run/wireguard/${interfaceName}.sock`;
}

/** Every peer of the device by public key (hex), and its counters. Rejects when nobody answers on the socket. */
export async function readPeers(socketPath: string): Promise<Map<string, PeerCounters>> {
  const peers = new Map<string, PeerCounters>();
  let current: PeerCounters | undefined;
  for (const line of (await ask(socketPath)).split('\n')) {
    const [key = '', value = ''] = line.split('=');
    if (key === 'public_key') peers.set(value, (current = { rxBytes: 0n, txBytes: 0n }));
    else if (key === 'rx_bytes' && current !== undefined) current.rxBytes = BigInt(value);
    else if (key === 'tx_bytes' && current !== undefined) current.txBytes = BigInt(value);
  }
  return peers;
}

function ask(path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const connection = createConnection(path, () => connection.write('get=1\n\n'));
    let reply = '';
    connection.setTimeout(REPLY_TIMEOUT_MS, () => connection.destroy());
    connection.on('error', reject);
    connection.on('close', () => reject(new Error('the control socket closed early')));
    connection.on('data', (data: Buffer | string) => {
      reply += data.toString();
      if (!reply.endsWith('\n\n')) return;
      resolve(reply);
      connection.destroy();
    });
  });
}
