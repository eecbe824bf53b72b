// What a customer's device can reach through the node: tried from inside the tunnel, with real packets.
import { createServer } from 'node:net';
import type { AddressInfo, Server } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { followLines } from '@penstock/testkit/netns/lines';
import { canUseNetns, must } from '@penstock/testkit/netns/netns';
import type { Namespace } from '@penstock/testkit/netns/netns';
import { receiver, sendUdp, transfer, until, WireguardNode } from '../../../test/wireguard-fixture.js';
import type { Customer, Origin } from '../../../test/wireguard-fixture.js';
import type { WireguardEngine } from './wireguard.engine.js';

const root = canUseNetns();
const METADATA = '169.254.77.9';
const SUBNET6 = 'fd66:231::/64';
const nothing = async (): Promise<void> => undefined;

describe.runIf(root)(`wireguard egress${root ? '' : ' (needs root)'}`, () => {
  let node: WireguardNode;
  let engine: WireguardEngine;
  let internet: Origin;
  let inside: Origin;
  let anna: Customer;
  let ben: Customer;
  let annaHome: Namespace;
  let benHome: Namespace;
  let service: Server;

  const reaches = async (target: string, from = annaHome): Promise<boolean> =>
    (await transfer(from, target, ['--download', '9', '--timeout', '700']))['complete'] === true;
  const servicePort = (): number => (service.address() as AddressInfo).port;

  beforeAll(async () => {
    node = await WireguardNode.prepare();
    anna = node.customer();
    ben = node.customer();
    engine = node.engine();
    await engine.start([anna.access, ben.access]);
    internet = await node.origin();
    inside = await node.origin('customer', [METADATA]);
    const everywhere = ['10.0.0.0/8', '198.18.0.0/15', '169.254.0.0/16', SUBNET6];
    [, annaHome] = await node.connect(anna, everywhere);
    [, benHome] = await node.connect(ben, everywhere);
    service = createServer((socket) => socket.end('penstock!'));
    await new Promise<void>((resolve) => service.listen(0, '::', resolve));
  });
  afterAll(async () => {
    service.close();
    await node.end();
  });

  test('the internet is reached, under the address of the node', async () => {
    expect(await reaches(internet.tcp)).toBe(true);
    expect(await reaches(internet.tcp, benHome)).toBe(true);
  });

  test('private and metadata addresses are not, unless the operator allows them', async () => {
    expect(await reaches(inside.tcp)).toBe(false);
    expect(await reaches(`${METADATA}:8080`)).toBe(false);
    await engine.detach();
    engine = node.engine({ allowEgress: [`${inside.namespace.address}/32`] });
    await engine.start([anna.access, ben.access]);
    expect(await reaches(inside.tcp)).toBe(true);
    expect(await reaches(`${METADATA}:8080`)).toBe(false);
    await engine.detach();
    engine = node.engine({ blockPrivateEgress: false });
    await engine.start([anna.access, ben.access]);
    expect(await reaches(inside.tcp)).toBe(true);
    expect(await reaches(`${METADATA}:8080`)).toBe(false);
    await engine.detach();
    engine = node.engine();
    await engine.start([anna.access, ben.access]);
    expect(await reaches(inside.tcp)).toBe(false);
  });

  test("the node's own services are not reached under any of its addresses, unless allowed", async () => {
    const outside = await node.namespace('customer');
    expect(await reaches(`${outside.hostAddress}:${servicePort()}`, outside)).toBe(true);
    for (const address of [node.nodeAddress, internet.namespace.hostAddress, inside.namespace.hostAddress]) {
      expect(await reaches(`${address}:${servicePort()}`)).toBe(false);
    }
    await engine.detach();
    engine = node.engine({ allowEgress: [`${node.nodeAddress}/32`] });
    await engine.start([anna.access, ben.access]);
    expect(await reaches(`${node.nodeAddress}:${servicePort()}`)).toBe(true);
    expect(await reaches(`${internet.namespace.hostAddress}:${servicePort()}`)).toBe(false);
  });

  test('clients never reach each other, also when the operator allows their range [V29]', async () => {
    await engine.detach();
    engine = node.engine({ allowEgress: node.options.subnets, blockPrivateEgress: false });
    await engine.start([anna.access, ben.access]);
    const benAddress = ben.peer.allowedIps[0]?.split('/')[0] ?? '';
    const benListens = await receiver({ ...benHome, address: benAddress }, '9100');
    const stop = sendUdp(annaHome, `${benAddress}:9100`, ['--rate', '200']);
    const before =
      (await engine.counters()).find((r) => r.subscriptionId === anna.access.subscriptionId)?.up ?? 0n;
    await until(async () => {
      const now = await engine.counters();
      return (now.find((r) => r.subscriptionId === anna.access.subscriptionId)?.up ?? 0n) > before + 50_000n;
    });
    stop();
    await benListens.next((line) => line['event'] === 'progress');
    expect(benListens.last('progress')).toMatchObject({ packets: 0 });
    const port = servicePort();
    expect(await reaches(`${benAddress}:${port}`)).toBe(false);
  });

  test('a foreign source address is dropped, from the tunnel and from outside [V29]', async () => {
    const [, tunnel] = (await must(['ip', '-n', annaHome.name, '-o', 'link', 'show', 'type', 'tun'])).split(
      ': ',
    );
    const seen = (): number => Number(internet.probe.last('progress')?.['packets'] ?? 0);
    const benAddress = ben.peer.allowedIps[0]?.split('/')[0] ?? '';
    await must(['ip', '-n', annaHome.name, 'address', 'add', `${benAddress}/32`, 'dev', tunnel ?? '']);
    const before = seen();
    const stopSpoof = sendUdp(annaHome, internet.udp, ['--from', benAddress, '--rate', '200']);

    const stranger = await node.namespace('customer', { defaultRoute: true });
    await must(['ip', '-n', stranger.name, 'address', 'add', `${benAddress}/32`, 'dev', 'lo']);
    const stopOutside = sendUdp(stranger, internet.udp, ['--from', benAddress, '--rate', '200']);
    const received = async (): Promise<number> => {
      const text = await must(['ip', '-s', '-j', 'link', 'show', 'dev', stranger.hostInterface]);
      return (JSON.parse(text) as { stats64: { rx: { packets: number } } }[])[0]?.stats64.rx.packets ?? 0;
    };
    await until(async () => (await received()) > 100);
    await internet.probe.next((line) => line['event'] === 'progress');
    expect(seen()).toBe(before);
    stopSpoof();
    stopOutside();
    // The same flow with the own address arrives: the silence above was the rule, not the path.
    const stop = sendUdp(annaHome, internet.udp, ['--from', anna.peer.allowedIps[0]?.split('/')[0] ?? '']);
    await until(() => seen() > before);
    stop();
  });

  test('IPv6 in the tunnel has the same rules [V29]', async () => {
    const six = async (home: Namespace, customer: Customer, address: string): Promise<void> => {
      const [, tunnel = ''] = (
        await must(['ip', '-n', home.name, '-o', 'link', 'show', 'type', 'tun'])
      ).split(': ');
      await must(['ip', '-n', home.name, 'address', 'add', `${address}/128`, 'dev', tunnel, 'nodad']);
      customer.peer.allowedIps.push(`${address}/128`);
    };
    await six(annaHome, anna, 'fd66:231::2');
    await six(benHome, ben, 'fd66:231::3');
    await engine.detach();
    const subnets = [...node.options.subnets, SUBNET6];
    engine = node.engine({ subnets, allowEgress: ['fd66:231::1/128'] });
    await engine.start([anna.access, ben.access]);
    expect((await engine.readBack()).admitted.get(ben.access.subscriptionId)).toEqual(ben.access);
    expect(await reaches(`fd66:231::1:${servicePort()}`)).toBe(true);
    await engine.detach();
    engine = node.engine({ subnets, allowEgress: [SUBNET6] });
    await engine.start([anna.access, ben.access]);
    const listener = benHome.spawn([
      process.execPath,
      '-e',
      `require('net').createServer((s) => s.end('penstock!')).listen(81, '::', () => console.log('{"event":"ready"}'))`,
    ]);
    await followLines(listener).next((line) => line['event'] === 'ready', { past: true });
    expect(await reaches('fd66:231::3:81', benHome)).toBe(true);
    expect(await reaches('fd66:231::3:81')).toBe(false);
    await engine.detach();
    engine = node.engine({ subnets });
    await engine.start([anna.access, ben.access]);
    expect(await reaches(`fd66:231::1:${servicePort()}`)).toBe(false);
  });

  test('stopping leaves no interface, table or process behind', async () => {
    await engine.stop();
    await expect(must(['ip', 'link', 'show', 'dev', node.options.interfaceName])).rejects.toThrow(
      /does not exist/,
    );
    expect(await must(['nft', 'list', 'tables'])).not.toContain(node.options.interfaceName);
    await expect(engine.counters()).rejects.toMatchObject({ code: 'unavailable' });
    engine = node.engine();
    await engine.start([node.customer().access]);
    expect((await engine.readBack()).admitted.size).toBe(1);
    await engine.apply([], nothing);
  });
});
