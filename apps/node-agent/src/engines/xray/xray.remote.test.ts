// The driver with customers on another machine: two of them behind one address in a network namespace, through VLESS
// with REALITY and Vision, and an origin on "the internet". Loopback hides what matters here: Xray's online list.
import { generateKeyPairSync, randomBytes, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createServer } from 'node:tls';
import type { Server } from 'node:tls';
import { setTimeout as wait } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Access } from '@penstock/domain/access';
import { systemClock } from '@penstock/domain/clock';
import { newId } from '@penstock/domain/ids';
import type { SubscriptionId, TenantId } from '@penstock/domain/ids';
import { issueCertificate, newKeyPair, privateKeyPem } from '@penstock/rpc/certificates';
import { followLines } from '@penstock/testkit/netns/lines';
import type { LineFollower } from '@penstock/testkit/netns/lines';
import { canUseNetns, createNamespace, sweepNamespaces } from '@penstock/testkit/netns/netns';
import type { Namespace } from '@penstock/testkit/netns/netns';
import { freePort } from '@penstock/testkit/traffic/xray-client';
import { listSockets } from './sockets.js';
import { XrayEngine } from './xray.engine.js';

const bin = process.env['XRAY_BIN'] ?? '';
const SERVER_NAME = 'penstock.example';

function program(name: string): string {
  return fileURLToPath(import.meta.resolve(`../../../../../packages/testkit/src/traffic/${name}.ts`));
}

function newAccess(): Access {
  const hex = randomBytes(16).toString('hex');
  const vlessId = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-0000-${hex.slice(16, 20)}-${hex.slice(20)}`;
  const xray = { vlessId, flow: 'xtls-rprx-vision' as const };
  return { tenantId: newId<TenantId>(), subscriptionId: newId<SubscriptionId>(), xray };
}

/** X25519 pair, base64url: the last 32 bytes of the DER forms. */
function realityKeys(): { privateKey: string; publicKey: string } {
  const pair = generateKeyPairSync('x25519');
  const raw = (der: Buffer): string => der.subarray(-32).toString('base64url');
  return {
    privateKey: raw(pair.privateKey.export({ format: 'der', type: 'pkcs8' })),
    publicKey: raw(pair.publicKey.export({ format: 'der', type: 'spki' })),
  };
}

/** The site that REALITY shows to strangers. */
async function startTarget(): Promise<{ server: Server; port: number }> {
  const keys = newKeyPair();
  const certificate = await issueCertificate({
    subject: `CN=${SERVER_NAME}`,
    publicKey: keys.publicKey,
    signer: { subject: `CN=${SERVER_NAME}`, keys },
    notBefore: new Date('2020-01-01'),
    notAfter: new Date('2099-01-01'),
    names: [{ type: 'dns', value: SERVER_NAME }],
    usages: ['server'],
  });
  const server = createServer({
    cert: new X509Certificate(certificate).toString(),
    key: privateKeyPem(keys),
    minVersion: 'TLSv1.3',
    ALPNProtocols: ['h2', 'http/1.1'],
  });
  server.on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  return { server, port: typeof address === 'object' && address !== null ? address.port : 0 };
}

describe.skipIf(bin === '' || !canUseNetns())(
  'customers behind one address, REALITY and Vision (needs root)',
  () => {
    const dir = mkdtempSync(join(tmpdir(), 'penstock-xray-'));
    const customers = [newAccess(), newAccess()] as const;
    const noop = async (): Promise<void> => undefined;
    let engine: XrayEngine;
    let home: Namespace;
    let internet: Namespace;
    let target: Server;
    let originPort = 0;
    let port = 0;
    const socksPorts: number[] = [];

    beforeAll(async () => {
      await sweepNamespaces();
      home = await createNamespace({ range: 'customer' });
      internet = await createNamespace({ range: 'internet' });
      const site = await startTarget();
      target = site.server;
      const keys = realityKeys();
      port = await freePort();
      const shortId = randomBytes(8).toString('hex');
      engine = new XrayEngine({
        bin,
        dir: join(dir, 'run'),
        inbounds: [
          {
            tag: 'reality',
            listen: '0.0.0.0',
            port,
            security: 'reality',
            reality: {
              privateKey: keys.privateKey,
              shortIds: [shortId],
              serverNames: [SERVER_NAME],
              target: `127.0.0.1:${site.port}`,
            },
          },
        ],
        blockPrivateEgress: true,
        allowEgress: [],
        clock: systemClock,
        log: { info: () => undefined, warn: () => undefined, error: () => undefined },
      });
      await engine.start(customers);
      const origin = followLines(
        internet.spawn([process.execPath, program('origin'), '--host', internet.address]),
      );
      originPort = Number((await origin.next((line) => line['event'] === 'ready', { past: true }))['port']);
      for (const { xray } of customers) {
        const child = home.spawn([process.execPath, program('xray-client')]);
        child.stdin?.end(
          JSON.stringify({
            bin,
            serverHost: home.hostAddress,
            serverPort: port,
            ...xray,
            reality: { publicKey: keys.publicKey, shortId, serverName: SERVER_NAME },
          }),
        );
        const ready = await followLines(child).next((line) => line['event'] === 'ready', { past: true });
        socksPorts.push(Number(ready['socksPort']));
      }
    });

    afterAll(async () => {
      await engine.stop();
      await home.destroy();
      await internet.destroy();
      target.close();
      rmSync(dir, { recursive: true });
    });

    function transfer(customer: 0 | 1, ...what: string[]): LineFollower {
      const socks = `127.0.0.1:${socksPorts[customer] ?? 0}`;
      const origin = `${internet.address}:${originPort}`;
      const argv = [process.execPath, program('socks-client'), '--socks', socks, '--origin', origin, ...what];
      return followLines(home.spawn(argv));
    }

    function counted(customer: 0 | 1): Promise<{ up: bigint; down: bigint }> {
      return engine.counters().then((readings) => {
        const own = readings.find(
          ({ subscriptionId }) => subscriptionId === customers[customer].subscriptionId,
        );
        return { up: own?.up ?? 0n, down: own?.down ?? 0n };
      });
    }

    test('bytes counted are bytes moved', async () => {
      const done = await transfer(0, '--download', '4000123').next((line) => line['event'] === 'done', {
        past: true,
      });
      expect(done).toMatchObject({ complete: true });
      expect(await counted(0)).toEqual({ up: BigInt(Number(done['sentBytes'])), down: 4_000_123n });
      expect(await counted(1)).toEqual({ up: 0n, down: 0n });
    });

    test('a cut ends one customer’s session and leaves the other’s, though both come from one address', async () => {
      // The download's connection lingers for a second: VLESS cannot pass a half-close on.
      while ((await listSockets([port])).length > 0) await wait(20);
      const [mine, other] = [transfer(0, '--stream', '500000'), transfer(1, '--stream', '500000')];
      await Promise.all(
        [mine, other].map((lines) => lines.next((line) => line['event'] === 'open', { past: true })),
      );
      const results = await engine.cut([customers[0].subscriptionId], noop);
      const result = results.get(customers[0].subscriptionId);
      expect(result).toMatchObject({ ended: true, sessionsEnded: 1, reason: '' });
      expect(result?.unattributed).toBeUndefined();
      expect(await mine.next((line) => line['event'] === 'done', { past: true })).toMatchObject({
        complete: false,
      });
      const before = Number(other.last('progress')?.['receivedBytes'] ?? 0);
      await other.next((line) => Number(line['receivedBytes'] ?? 0) > before + 300_000);
      expect(other.last('done')).toBeUndefined();
      const after = await transfer(0, '--download', '1000').next((line) => line['event'] === 'done', {
        past: true,
      });
      expect(after).toMatchObject({ complete: false });
      expect((await engine.readBack()).admitted.get(customers[1].subscriptionId)?.xray).toEqual(
        customers[1].xray,
      );
    });

    test('a session whose owner nobody knows any more is found by Xray’s online list', async () => {
      await engine.apply([customers[0]], noop);
      const mine = transfer(0, '--stream', '300000');
      await mine.next((line) => line['event'] === 'open', { past: true });
      await engine.detach();
      rmSync(join(dir, 'run', 'sockets'), { force: true });
      await engine.start(customers);
      const result = (await engine.cut([customers[0].subscriptionId], noop)).get(customers[0].subscriptionId);
      expect(result?.ended).toBe(true);
      expect(result?.unattributed).toBeGreaterThanOrEqual(1);
      expect(await mine.next((line) => line['event'] === 'done', { past: true })).toMatchObject({
        complete: false,
      });
    });
  },
);
