// Customers who never stop: bytes flow through a node's engines all the time while a test breaks something. One long
// stream and one chain of short transfers through Xray; as root also one long stream through WireGuard. When the pump is
// off, every byte is in the engines' counters, and those must be in the ledger.
import { randomInt } from 'node:crypto';
import { expect } from 'vitest';
import { followLines, type LineFollower } from '@penstock/testkit/netns/lines';
import type { WireguardClient } from '@penstock/testkit/netns/wireguard-client';
import { download, openStream, upload, type Transfer } from '@penstock/testkit/traffic/socks-client';
import type { XrayClient } from '@penstock/testkit/traffic/xray-client';
import { until } from './until.js';
import type { Bytes, Customer, NodeOfWorld, World } from './world.js';

const XRAY_BYTES_PER_SECOND = 400_000;
const WIREGUARD_BYTES_PER_SECOND = 200_000;
const SHORT_BYTES_MAX = 60_000;

interface WireguardSide {
  customer: Customer;
  client: WireguardClient;
  /** Starts another stream from the customer's namespace. */
  stream: () => { lines: LineFollower; end: () => void };
}

export class Pump {
  private stream: Transfer | null = null;
  private tunnel: { lines: LineFollower; end: () => void } | null = null;
  private on = false;
  private short: Promise<void> = Promise.resolve();
  private shortBytes = 0;

  private constructor(
    private readonly world: World,
    readonly node: NodeOfWorld,
    readonly customer: Customer,
    private readonly client: XrayClient,
    private readonly wireguard: WireguardSide | null,
  ) {}

  /** A customer for each engine, with unlimited quota. */
  static async make(world: World, node: NodeOfWorld, withWireguard: boolean): Promise<Pump> {
    const customer = await world.addCustomer(null, ['xray']);
    const client = await world.xrayClient(customer, node);
    if (!withWireguard) return new Pump(world, node, customer, client, null);
    const internet = await world.internet();
    const other = await world.addCustomer(null, ['wireguard']);
    const { namespace, client: device } = await world.wireguardClient(other, node);
    const origin = `${internet.host}:${internet.port}`;
    const args = ['--origin', origin, '--stream', String(WIREGUARD_BYTES_PER_SECOND), '--timeout', '60000'];
    const stream = () => {
      const child = namespace.spawn([process.execPath, world.directClient, ...args]);
      return { lines: followLines(child), end: () => void child.kill('SIGTERM') };
    };
    return new Pump(world, node, customer, client, { customer: other, client: device, stream });
  }

  async start(): Promise<void> {
    this.on = true;
    this.stream = await openStream(this.world.socks(this.client), XRAY_BYTES_PER_SECOND);
    this.short = this.shortTransfers();
    if (this.wireguard === null) return;
    this.tunnel = this.wireguard.stream();
    try {
      await this.tunnel.lines.next((line) => Number(line['receivedBytes'] ?? 0) > 0, { past: true });
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Bytes that the customers have seen in this run. */
  get moved(): number {
    const tunnelled = Number(this.tunnel?.lines.last('progress')?.['receivedBytes'] ?? 0);
    return (this.stream?.receivedBytes ?? 0) + this.shortBytes + tunnelled;
  }

  /** Waits until this many bytes more have moved: through the engines alone, whatever of ours is down. */
  async move(bytes: number): Promise<void> {
    const target = this.moved + bytes;
    await until(() => this.moved >= target, `${bytes} bytes more`);
  }

  /** Ends the traffic. The long streams lasted until now: nothing that happened meanwhile has touched the customers. */
  async stop(): Promise<void> {
    expect(this.stream?.open, 'the customer’s stream lasted').toBe(true);
    this.on = false;
    this.stream?.abort();
    await this.short;
    if (this.tunnel === null) return;
    expect(this.tunnel.lines.last('done'), 'the WireGuard stream lasted').toBeUndefined();
    this.tunnel.end();
    await this.tunnel.lines.next((line) => line['event'] === 'done', { past: true });
    this.tunnel = null;
  }

  /** With the traffic off: what the engines count is in the ledger and in the counters, to the byte. */
  async settled(): Promise<{ xray: Bytes; wireguard: Bytes | null }> {
    const xray = await this.equal(this.customer, () => this.world.xrayCounters(this.node, this.customer));
    if (this.wireguard === null) return { xray, wireguard: null };
    const { customer, client } = this.wireguard;
    const read = (): Promise<Bytes> => this.world.wireguardCounters(this.node, client.publicKey);
    return { xray, wireguard: await this.equal(customer, read) };
  }

  private async equal(customer: Customer, read: () => Promise<Bytes>): Promise<Bytes> {
    let [engine, seen] = [{ up: 0n, down: 0n }, ''];
    await until(
      async () => {
        const ledger = await this.world.ledgerBytes(customer);
        const counter = await this.world.counterBytes(customer);
        engine = await read();
        seen = [engine, ledger, counter].map(({ up, down }) => `${up}/${down}`).join(', ');
        return [ledger, counter].every(({ up, down }) => up === engine.up && down === engine.down);
      },
      () => `engine = ledger = counter (${seen})`,
      20_000,
    );
    return engine;
  }

  private async shortTransfers(): Promise<void> {
    const target = this.world.socks(this.client);
    while (this.on) {
      const transfer = this.shortBytes % 2 === 0 ? download : upload;
      const result = await transfer(target, randomInt(1, SHORT_BYTES_MAX));
      expect(result.error).toBe('');
      this.shortBytes += result.sentBytes + result.receivedBytes;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
