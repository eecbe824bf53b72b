// A customer's WireGuard device in a namespace: a real wireguard-go, configured over its control socket, with routes
// into the tunnel. Its own counters mirror the node's: what it sent (tx) is what the node received (rx).
import { randomBytes } from 'node:crypto';
import { createConnection } from 'node:net';
import { newWireguardPrivateKey, wireguardPublicKey } from '@penstock/domain/wireguard-keys';
import { must } from './netns.js';
import type { Namespace } from './netns.js';

const START_TIMEOUT_MS = 10_000;
const MTU = 1420;

export interface WireguardClientOptions {
  /** Path of wireguard-go. */
  bin: string;
  namespace: Namespace;
  /** Base64; a new one when left out. */
  privateKey?: string;
  presharedKey: string;
  /** Addresses of the device in the tunnel, "10.66.0.2/32". */
  addresses: string[];
  server: { publicKey: string; host: string; port: number };
  /** Prefixes sent into the tunnel, "198.18.0.0/15". */
  routes: string[];
  /** 0 (default) = none, so that an idle device sends nothing and counters stand still. */
  keepaliveSeconds?: number;
}

export interface ClientCounters {
  rxBytes: bigint;
  txBytes: bigint;
}

export interface WireguardClient {
  interfaceName: string;
  publicKey: string;
  /** The device's own counters, from its control socket. */
  counters(): Promise<ClientCounters>;
  /** Takes another private key and makes a new session with it. */
  setPrivateKey(privateKey: string): Promise<void>;
  setPresharedKey(presharedKey: string): Promise<void>;
  /** Forgets the session, so that the next packet makes a new one (by itself a device tries after 15 s of silence). */
  renewSession(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts the device; resolves when it may send (the handshake comes with the first packet). */
export async function startWireguardClient(options: WireguardClientOptions): Promise<WireguardClient> {
  const { namespace, server } = options;
  // Control sockets of all namespaces lie in one directory: the name must be unique on the machine.
  const interfaceName = `wc${randomBytes(5).toString('hex')}`;
  const socket = `/var/run/wireguard/${interfaceName}.sock`;
  const child = namespace.spawn([options.bin, '-f', interfaceName], { LOG_LEVEL: 'error' });
  let said = '';
  child.stderr?.on('data', (data: Buffer) => (said = (said + data.toString()).slice(-1000)));
  child.stdout?.resume();
  const exited = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await uapi(socket, 'get=1\n\n').then(Boolean, () => false))) {
    if (child.exitCode !== null || performance.now() > deadline) {
      child.kill('SIGKILL');
      throw new Error(`the customer's wireguard-go did not start: ${said}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  let privateKey = options.privateKey ?? newWireguardPrivateKey();
  const serverKey = hex(server.publicKey);
  await set(
    socket,
    `private_key=${hex(privateKey)}\npublic_key=${serverKey}\npreshared_key=${hex(options.presharedKey)}\n` +
      `endpoint=${server.host}:${server.port}\npersistent_keepalive_interval=${options.keepaliveSeconds ?? 0}\n` +
      options.routes.map((route) => `allowed_ip=${route}\n`).join(''),
  );
  for (const address of options.addresses) {
    await must(['ip', '-n', namespace.name, 'address', 'add', address, 'dev', interfaceName]);
  }
  await must(['ip', '-n', namespace.name, 'link', 'set', interfaceName, 'mtu', String(MTU), 'up']);
  for (const route of options.routes) {
    await must(['ip', '-n', namespace.name, 'route', 'add', route, 'dev', interfaceName]);
  }
  return {
    interfaceName,
    publicKey: wireguardPublicKey(privateKey),
    counters: async () => {
      const reply = await uapi(socket, 'get=1\n\n');
      const figure = (key: string): bigint =>
        BigInt(new RegExp(`^${key}=(\\d+)$`, 'm').exec(reply)?.[1] ?? '0');
      return { rxBytes: figure('rx_bytes'), txBytes: figure('tx_bytes') };
    },
    setPrivateKey: async (key) => {
      privateKey = key;
      await set(socket, `private_key=${hex(key)}\n`);
    },
    renewSession: async () => {
      // A changed private key ends all sessions; counters stay.
      await set(socket, `private_key=${hex(newWireguardPrivateKey())}\n`);
      await set(socket, `private_key=${hex(privateKey)}\n`);
    },
    setPresharedKey: (key) =>
      set(socket, `public_key=${serverKey}\nupdate_only=true\npreshared_key=${hex(key)}\n`),
    stop: async () => {
      child.kill('SIGTERM');
      await exited;
    },
  };
}

function hex(base64: string): string {
  return Buffer.from(base64, 'base64').toString('hex');
}

async function set(socket: string, lines: string): Promise<void> {
  const reply = await uapi(socket, `set=1\n${lines}\n`);
  if (!reply.includes('errno=0\n')) throw new Error(`wireguard-go refused: ${reply.trim()}`);
}

function uapi(path: string, message: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const connection = createConnection(path, () => connection.write(message));
    let reply = '';
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
