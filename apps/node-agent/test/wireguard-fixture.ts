// A node with a real WireGuard engine on this machine, customers and origins in namespaces of their own.
import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync } from 'node:fs';
import { randomBytes, randomInt } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Access, WireguardPeer } from '@penstock/domain/access';
import { systemClock } from '@penstock/domain/clock';
import { newId } from '@penstock/domain/ids';
import type { DeviceId, SubscriptionId, TenantId } from '@penstock/domain/ids';
import { newWireguardPrivateKey, wireguardPublicKey } from '@penstock/domain/wireguard-keys';
import { followLines } from '@penstock/testkit/netns/lines';
import type { JsonLine, LineFollower } from '@penstock/testkit/netns/lines';
import { createNamespace, sweepNamespaces } from '@penstock/testkit/netns/netns';
import type { Namespace } from '@penstock/testkit/netns/netns';
import { startWireguardClient } from '@penstock/testkit/netns/wireguard-client';
import type { WireguardClient } from '@penstock/testkit/netns/wireguard-client';
import { WireguardEngine } from '../src/engines/wireguard/wireguard.engine.js';
import type { WireguardOptions } from '../src/engines/wireguard/options.js';

const testkit = fileURLToPath(new URL('../../../packages/testkit/src', import.meta.url));

export interface Customer {
  access: Access;
  peer: WireguardPeer;
  privateKey: string;
}

export interface Origin {
  namespace: Namespace;
  /** "address:port" of the TCP origin. */
  tcp: string;
  udp: string;
  /** Lines of the UDP receiver. */
  probe: LineFollower;
}

export async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => socket.bind(0, resolve));
  const { port } = socket.address();
  socket.close();
  return port;
}

export class WireguardNode {
  readonly options: WireguardOptions;
  readonly publicKey: string;
  readonly log: string[] = [];
  readonly #subnet: string;
  readonly #namespaces: Namespace[] = [];
  #engines: WireguardEngine[] = [];
  #hosts = 1;

  private constructor(listenPort: number, bin: string) {
    const privateKey = newWireguardPrivateKey();
    this.publicKey = wireguardPublicKey(privateKey);
    this.#subnet = `10.${64 + randomInt(60)}.${randomInt(256)}`;
    const note = (fields: object, message: string): void => void this.log.push(message);
    this.options = {
      wireguardGoBin: bin,
      dir: join(mkdtempSync(join(tmpdir(), 'penstock-wg-')), 'run'),
      interfaceName: `wn${randomBytes(5).toString('hex')}`,
      listenPort,
      privateKey,
      subnets: [`${this.#subnet}.0/24`],
      blockPrivateEgress: true,
      allowEgress: [],
      clock: systemClock,
      log: { info: note, warn: note, error: note },
    };
  }

  static async prepare(): Promise<WireguardNode> {
    await sweepNamespaces();
    return new WireguardNode(await freeUdpPort(), process.env['WIREGUARD_GO_BIN'] ?? 'wireguard-go');
  }

  get nodeAddress(): string {
    return `${this.#subnet}.1`;
  }

  /** A new engine object on the same directory and interface, as an agent that was started again has it. */
  engine(changes: Partial<WireguardOptions> = {}): WireguardEngine {
    const engine = new WireguardEngine({ ...this.options, ...changes });
    this.#engines.push(engine);
    return engine;
  }

  customer(): Customer {
    const privateKey = newWireguardPrivateKey();
    const peer: WireguardPeer = {
      deviceId: newId<DeviceId>(),
      publicKey: wireguardPublicKey(privateKey),
      presharedKey: randomBytes(32).toString('base64'),
      allowedIps: [`${this.#subnet}.${(this.#hosts += 1)}/32`],
    };
    const access: Access = {
      tenantId: newId<TenantId>(),
      subscriptionId: newId<SubscriptionId>(),
      wireguard: [peer],
    };
    return { access, peer, privateKey };
  }

  /** The customer's machine with a running device; `routes` go into the tunnel. */
  async connect(customer: Customer, routes = ['198.18.0.0/15']): Promise<[WireguardClient, Namespace]> {
    const namespace = await this.namespace('customer');
    const client = await startWireguardClient({
      bin: this.options.wireguardGoBin ?? '',
      namespace,
      privateKey: customer.privateKey,
      presharedKey: customer.peer.presharedKey,
      addresses: customer.peer.allowedIps,
      server: { publicKey: this.publicKey, host: namespace.hostAddress, port: this.options.listenPort },
      routes,
    });
    return [client, namespace];
  }

  async namespace(
    range: 'customer' | 'internet',
    more: { extraAddresses?: string[]; defaultRoute?: boolean } = {},
  ): Promise<Namespace> {
    const namespace = await createNamespace({ range, ...more });
    this.#namespaces.push(namespace);
    return namespace;
  }

  async origin(range: 'customer' | 'internet' = 'internet', extraAddresses: string[] = []): Promise<Origin> {
    const namespace = await this.namespace(range, { extraAddresses });
    const tcp = followLines(
      namespace.spawn([
        process.execPath,
        `${testkit}/traffic/origin.ts`,
        '--host',
        '0.0.0.0',
        '--port',
        '8080',
      ]),
    );
    await tcp.next((line) => line['event'] === 'ready', { past: true });
    return {
      namespace,
      tcp: `${namespace.address}:8080`,
      udp: `${namespace.address}:9000`,
      probe: await receiver(namespace, '9000'),
    };
  }

  async end(): Promise<void> {
    for (const engine of this.#engines) await engine.detach();
    await this.engine().stop();
    for (const namespace of this.#namespaces) await namespace.destroy();
    rmSync(join(this.options.dir, '..'), { recursive: true, force: true });
  }
}

/** A UDP receiver inside the namespace; its progress lines tell packets and the time of the last. */
export async function receiver(namespace: Namespace, port: string): Promise<LineFollower> {
  const probe = followLines(
    namespace.spawn([
      process.execPath,
      `${testkit}/netns/udp-probe.ts`,
      '--receive',
      `${namespace.address}:${port}`,
    ]),
  );
  await probe.next((line) => line['event'] === 'ready', { past: true });
  return probe;
}

/** A steady UDP flow from the namespace; returns how to end it. */
export function sendUdp(namespace: Namespace, to: string, more: string[] = []): () => void {
  const argv = [process.execPath, `${testkit}/netns/udp-probe.ts`, '--send', to, ...more];
  const child = namespace.spawn(argv);
  return () => void child.kill('SIGKILL');
}

/** One transfer from the namespace to the origin: ['--download', '1000']. */
export async function transfer(namespace: Namespace, origin: string, argv: string[]): Promise<JsonLine> {
  const script = `${testkit}/netns/direct-client.ts`;
  const child = namespace.spawn([process.execPath, script, '--origin', origin, ...argv]);
  return followLines(child).next((line) => line['event'] === 'done', { timeoutMs: 30_000 });
}

/** Waits until `read` gives the same twice, 60 ms apart: nothing is on its way any more. */
export async function settled<T>(read: () => Promise<T>): Promise<T> {
  const text = (value: T): string =>
    JSON.stringify(value, (_, v: unknown) => (typeof v === 'bigint' ? `${v}n` : v));
  for (let before = await read(), turn = 0; turn < 200; turn += 1) {
    await new Promise((resolve) => setTimeout(resolve, 60));
    const now = await read();
    if (text(now) === text(before)) return now;
    before = now;
  }
  throw new Error('the figures never stood still');
}

/** Waits for a condition. */
export async function until(condition: () => Promise<boolean> | boolean, timeoutMs = 15_000): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error('the condition never held');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
