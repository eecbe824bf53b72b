// V30: a customer does not reach the node's own services by a name that changes its address between the check and the
// dialling (DNS rebinding). A whole node in a namespace: the real Xray on the configuration that we render, behind the
// firewall that we render, with a DNS server that the attacker commands.
import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Access } from '@penstock/domain/access';
import { systemClock } from '@penstock/domain/clock';
import { newId, type SubscriptionId, type TenantId } from '@penstock/domain/ids';
import { followLines, type LineFollower } from '@penstock/testkit/netns/lines';
import { canUseNetns, createNamespace, must, sweepNamespaces } from '@penstock/testkit/netns/netns';
import type { Namespace } from '@penstock/testkit/netns/netns';
import { startOrigin, type Origin } from '@penstock/testkit/traffic/origin';
import { freePort } from '@penstock/testkit/traffic/xray-client';
import { renderConfig } from '../../apps/node-agent/src/engines/xray/config.js';
import {
  egressMark,
  egressTableName,
  renderEgressFirewall,
} from '../../apps/node-agent/src/engines/xray/egress-firewall.js';
import { XrayEngine } from '../../apps/node-agent/src/engines/xray/xray.engine.js';

const bin = process.env['XRAY_BIN'] ?? '';
const able = canUseNetns() && bin !== '';
const VLESS_PORT = 8443;
const SECRET_PORT = 9464;
const VLESS_ID = '0123abcd-4567-0000-89ab-0123456789ab';
const ACCESS: Access = {
  tenantId: newId<TenantId>(),
  subscriptionId: newId<SubscriptionId>(),
  xray: { vlessId: VLESS_ID, flow: '' },
};
const traffic = (name: string): string =>
  fileURLToPath(new URL(`../../packages/testkit/src/traffic/${name}.ts`, import.meta.url));

describe.runIf(able)(`V30 rebinding${able ? '' : ' (needs root and XRAY_BIN)'}`, () => {
  let dir: string;
  let node: Namespace;
  let internet: Origin;
  let dns: LineFollower;
  let secret: LineFollower;
  let socksPort: number;
  let names = 0;

  beforeAll(async () => {
    await sweepNamespaces();
    dir = mkdtempSync(join(tmpdir(), 'penstock-v30-'));
    node = await createNamespace({ range: 'internet' });
    mkdirSync(`/etc/netns/${node.name}`, { recursive: true });
    writeFileSync(`/etc/netns/${node.name}/resolv.conf`, 'nameserver 127.0.0.1\n');
    internet = await startOrigin({ host: node.hostAddress, port: SECRET_PORT });
    const here = fileURLToPath(new URL('rebinding-dns.ts', import.meta.url));
    dns = await started([process.execPath, here, '--public', node.hostAddress, '--private', '127.0.0.1']);
    secret = await started([
      ...[process.execPath, traffic('origin')],
      ...['--host', '0.0.0.0', '--port', String(SECRET_PORT)],
    ]);
    const client = node.spawn([process.execPath, traffic('xray-client')]);
    const settings = { bin, serverHost: '127.0.0.1', serverPort: VLESS_PORT, vlessId: VLESS_ID };
    client.stdin?.end(JSON.stringify(settings));
    socksPort = Number((await ready(followLines(client)))['socksPort']);
  });
  afterAll(async () => {
    await internet.close();
    await node.destroy();
    rmSync(`/etc/netns/${node.name}`, { recursive: true, force: true });
    rmSync(dir, { recursive: true });
  });

  const ready = (lines: LineFollower): ReturnType<LineFollower['next']> =>
    lines.next((line) => line['event'] === 'ready', { past: true });

  async function started(argv: string[]): Promise<LineFollower> {
    const lines = followLines(node.spawn(argv));
    await ready(lines);
    return lines;
  }

  /** The node's Xray with these prefixes allowed, with or without the wall, while `work` runs. */
  async function withXray(allowEgress: string[], walled: boolean, work: () => Promise<void>): Promise<void> {
    const inbound = { tag: 'vless', listen: '127.0.0.1', port: VLESS_PORT, security: 'none' as const };
    const path = (name: string): string => join(dir, name);
    const config = renderConfig(
      {
        inbounds: [inbound],
        paths: { config: path('config.json'), socket: path('api.sock'), accessLog: '/dev/null' },
        ...{ blockPrivateEgress: true, allowEgress },
        ownAddresses: ['127.0.0.1', node.address],
        mark: egressMark(dir),
      },
      [ACCESS],
    );
    writeFileSync(path('config.json'), config, { mode: 0o600 });
    const wall = renderEgressFirewall({ dir, blockPrivateEgress: true, allowEgress });
    const script = walled
      ? wall
      : `table inet ${egressTableName(dir)} {}\ndelete table inet ${egressTableName(dir)}\n`;
    expect(await node.run(['nft', '-f', '-'], script)).toMatchObject({ code: 0, stderr: '' });
    const xray = node.spawn([bin, 'run', '-c', path('config.json')]);
    const ended = new Promise((resolve) => xray.once('close', resolve));
    try {
      await expect.poll(() => listens(VLESS_PORT), { timeout: 15_000 }).toBe(true);
      await work();
    } finally {
      xray.kill('SIGKILL');
      await ended;
      rmSync(path('api.sock'), { force: true });
    }
  }

  async function listens(port: number): Promise<boolean> {
    return (await node.run(['ss', '-Hltn', 'sport', '=', `:${port}`])).stdout.trim() !== '';
  }

  /** A download through the customer's tunnel; true when it came whole. */
  async function reaches(host: string): Promise<boolean> {
    const { stdout } = await node.run([
      ...[process.execPath, traffic('socks-client'), '--socks', `127.0.0.1:${socksPort}`],
      ...['--origin', `${host}:${SECRET_PORT}`, '--download', '9'],
    ]);
    return (JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as { complete: boolean }).complete;
  }

  /** A name nobody asked for yet, and the addresses it was answered with after `work`. */
  async function rebind(): Promise<{ reached: boolean; answers: unknown[]; secretSeen: number }> {
    const label = `a${(names += 1)}x${randomBytes(4).toString('hex')}`;
    const before = secret.lines.filter((line) => line['event'] === 'open').length;
    const reached = await reaches(`${label}.example`);
    const answers = dns.lines
      .filter((line) => String(line['name']).startsWith(label))
      .map((l) => l['address']);
    const opened = secret.lines.filter((line) => line['event'] === 'open').length;
    return { reached, answers, secretSeen: opened - before };
  }

  test('a name that is public for the rule and loopback for the dialler is refused, six times of six', async () => {
    await withXray([], true, async () => {
      for (let turn = 0; turn < 6; turn += 1) {
        const { reached, answers, secretSeen } = await rebind();
        expect({ reached, secretSeen }).toEqual({ reached: false, secretSeen: 0 });
        // It was the firewall that refused: the rule had seen the public address.
        expect(answers.slice(0, 2)).toEqual([node.hostAddress, '127.0.0.1']);
      }
      // The internet is open, by address.
      expect(await reaches(node.hostAddress)).toBe(true);
    });
  });

  test('the same name reaches the node where there is no firewall: the test tests something', async () => {
    await withXray([], false, async () => {
      expect(await rebind()).toMatchObject({ reached: true, secretSeen: 1 });
    });
  });

  test('allowed prefixes come first, and nothing beside them', async () => {
    await withXray(['127.0.0.0/8'], true, async () => {
      expect(await reaches('127.0.0.1')).toBe(true);
      expect((await rebind()).reached).toBe(true);
      expect(await reaches(node.address)).toBe(false);
    });
  });

  test('the engine has its table from its start until it is stopped, not only until it is let go', async () => {
    const options = {
      ...{ bin, dir: join(dir, 'engine'), clock: systemClock, blockPrivateEgress: true, allowEgress: [] },
      inbounds: [{ tag: 'vless', listen: '127.0.0.1', port: await freePort(), security: 'none' as const }],
      log: { info: () => undefined, warn: () => undefined, error: () => undefined },
    };
    const hasTable = async (): Promise<boolean> =>
      (await must(['nft', 'list', 'tables'])).includes(egressTableName(options.dir));
    let engine = new XrayEngine(options);
    try {
      await engine.start([ACCESS]);
      expect(await hasTable()).toBe(true);
      await engine.detach();
      expect(await hasTable()).toBe(true);
      engine = new XrayEngine(options);
      await must(['nft', 'delete', 'table', 'inet', egressTableName(options.dir)]);
      await engine.start([ACCESS]);
      expect(await hasTable()).toBe(true);
    } finally {
      await engine.stop();
    }
    expect(await hasTable()).toBe(false);
  });
});

test('two nodes of one machine have tables and marks of their own, and text that is no prefix is refused', () => {
  const render = (dir: string, allowEgress: string[] = []): string =>
    renderEgressFirewall({ dir, blockPrivateEgress: true, allowEgress });
  expect(egressTableName('/run/a/xray')).not.toBe(egressTableName('/run/b/xray'));
  expect(egressMark('/run/a/xray')).not.toBe(egressMark('/run/b/xray'));
  const text = render('/run/a/xray', ['10.1.2.3/24', 'fd12::/16']);
  for (const part of ['10.1.2.0/24', 'fd12::/16', '169.254.0.0/16', '168.63.129.16/32', '::ffff:0:0/96'])
    expect(text).toContain(part);
  const order = ['@allowed4 accept', 'fib daddr', '@blocked4 reject'].map((rule) => text.indexOf(rule));
  expect(order).toEqual([...order].sort((a, b) => a - b));
  expect(() => render('/run/a/xray', ['10.0.0.0/8 }'])).toThrow(
    expect.objectContaining({ code: 'invalid_input' }),
  );
});
