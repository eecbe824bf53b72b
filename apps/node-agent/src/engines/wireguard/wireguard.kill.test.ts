// An agent killed with -9 at any moment, also between the peer file and the add, never gives a counter the life of
// another: the sum over all lives that it was shown is what the device really counted. Needs the built agent (dist/).
// PENSTOCK_TEST_SEED chooses the moments; a failure names its seed.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, onTestFailed, test } from 'vitest';
import { followLines } from '@penstock/testkit/netns/lines';
import type { JsonLine, LineFollower } from '@penstock/testkit/netns/lines';
import { canUseNetns } from '@penstock/testkit/netns/netns';
import type { WireguardClient } from '@penstock/testkit/netns/wireguard-client';
import { seeded } from '../../../test/accounting/crashing-files.js';
import { sendUdp, settled, until, WireguardNode } from '../../../test/wireguard-fixture.js';
import type { Customer, Origin } from '../../../test/wireguard-fixture.js';
import { socketPath } from './device.js';
import { UapiChannel } from './uapi.channel.js';

const SEED = Number(process.env['PENSTOCK_TEST_SEED'] ?? 20260101);
const KILLS = 15;
/** Milliseconds after an agent's start at which it is killed. */
const [KILL_MS_MIN, KILL_MS_MAX] = [20, 600];
const PACKET_BYTES = 600;
const PACKETS_PER_MS = 0.3;
const root = canUseNetns();
const script = fileURLToPath(new URL('../../../test/wireguard-restless-agent.mjs', import.meta.url));

interface PrintedReading {
  subscriptionId: string;
  boot: string;
  up: string;
}

describe.runIf(root)(`wireguard under kill -9${root ? '' : ' (needs root)'}`, () => {
  let node: WireguardNode;
  let keep: Customer;
  let toggle: Customer;
  let origin: Origin;

  beforeAll(async () => {
    node = await WireguardNode.prepare();
    [keep, toggle] = [node.customer(), node.customer()];
    origin = await node.origin();
  });
  afterAll(() => node.end());

  function agent(): [ChildProcess, LineFollower] {
    const child = spawn(process.execPath, [script], { stdio: ['pipe', 'pipe', 'pipe'] });
    child.stdin?.end(JSON.stringify({ options: node.options, keep: keep.access, toggle: toggle.access }));
    return [child, followLines(child)];
  }

  test('lives are never confused and sums are what the device counted', { timeout: 90_000 }, async () => {
    onTestFailed(() => console.error(`PENSTOCK_TEST_SEED=${SEED}`));
    const random = seeded(SEED);
    const printed: JsonLine[] = [];
    const truth = new DeviceWatch(node.options.interfaceName);
    let [child, lines] = agent();
    await lines.next((line) => line['event'] === 'started', { past: true });
    truth.start();
    let toggleDevice: WireguardClient | undefined;
    const stops: (() => void)[] = [];
    for (const customer of [keep, toggle]) {
      const [device, home] = await node.connect(customer);
      stops.push(sendUdp(home, origin.udp, ['--rate', '300', '--size', '500']));
      if (customer === toggle) toggleDevice = device;
    }
    // Added again, the peer knows no session; the device would notice only after 15 s.
    const renewing = setInterval(() => void toggleDevice?.renewSession(), 50);
    for (let kill = 0; kill < KILLS; kill += 1) {
      const killMs = KILL_MS_MIN + random() * (KILL_MS_MAX - KILL_MS_MIN);
      await new Promise((resolve) => setTimeout(resolve, killMs));
      child.kill('SIGKILL');
      await new Promise((resolve) => child.once('close', resolve));
      printed.push(...lines.lines);
      [child, lines] = agent();
      await lines.next((line) => line['event'] === 'started', { past: true });
    }
    clearInterval(renewing);
    for (const stop of stops) stop();
    await lines.next((line) => line['event'] === 'readings');
    await until(() => lines.lines.filter((line) => line['event'] === 'readings').length > 20);
    await settled(async () => {
      await truth.look();
      return truth.sum(keep);
    });
    await truth.stop();
    child.kill('SIGKILL');
    printed.push(...lines.lines);

    const warnings = printed.filter((line) => line['event'] === 'warn');
    expect(warnings).toEqual([]);
    for (const customer of [keep, toggle]) {
      const lives = new Map<string, bigint>();
      for (const { up, boot } of readingsOf(printed, customer)) {
        expect(up).toBeGreaterThanOrEqual(lives.get(boot) ?? 0n);
        lives.set(boot, up);
      }
      const shown = [...lives.values()].reduce((sum, up) => sum + up, 0n);
      const counted = truth.sum(customer);
      const slack = truth.unseen(customer);
      expect(shown).toBeGreaterThanOrEqual(counted - slack);
      expect(shown).toBeLessThanOrEqual(counted + slack);
      expect(counted).toBeGreaterThan(100_000n);
      if (customer === keep) expect(lives.size).toBe(1);
      else expect(lives.size).toBeGreaterThan(3);
    }
  });
});

function readingsOf(printed: JsonLine[], customer: Customer): { up: bigint; boot: string }[] {
  return printed
    .filter((line) => line['event'] === 'readings')
    .flatMap((line) => line['readings'] as PrintedReading[])
    .filter((reading) => reading.subscriptionId === customer.access.subscriptionId)
    .map(({ up, boot }) => ({ up: BigInt(up), boot }));
}

/** Reads the device itself, beside the agent, and adds up the lives of each counter as it sees them end. */
class DeviceWatch {
  readonly #channel: UapiChannel;
  readonly #ended = new Map<string, bigint>();
  readonly #unseen = new Map<string, bigint>();
  #last = new Map<string, bigint>();
  #lastAtMs = performance.now();
  #running = false;
  #loop: Promise<void> = Promise.resolve();

  constructor(interfaceName: string) {
    this.#channel = new UapiChannel(socketPath(interfaceName));
  }

  start(): void {
    this.#running = true;
    this.#loop = (async () => {
      while (this.#running) {
        await this.look();
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
    })();
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#loop;
    await this.look();
  }

  sum(customer: Customer): bigint {
    const key = hexKey(customer);
    return (this.#ended.get(key) ?? 0n) + (this.#last.get(key) ?? 0n);
  }

  /** What may have passed between the last look at a life and its end, over all lives. */
  unseen(customer: Customer): bigint {
    return this.#unseen.get(hexKey(customer)) ?? 0n;
  }

  async look(): Promise<void> {
    const { peers } = await this.#channel.read();
    const now = new Map([...peers].map(([key, peer]) => [key, peer.rxBytes]));
    for (const [key, before] of this.#last) {
      if ((now.get(key) ?? 0n) >= before) continue;
      this.#ended.set(key, (this.#ended.get(key) ?? 0n) + before);
      // The sender catches up in bursts when the machine is busy: three times its rate.
      const packets = 5 + Math.ceil((performance.now() - this.#lastAtMs) * PACKETS_PER_MS * 3);
      this.#unseen.set(key, (this.#unseen.get(key) ?? 0n) + BigInt(packets * PACKET_BYTES));
    }
    this.#last = now;
    this.#lastAtMs = performance.now();
  }
}

function hexKey(customer: Customer): string {
  return Buffer.from(customer.peer.publicKey, 'base64').toString('hex');
}
