// The host of engines over a real Xray: what validation takes, Xray starts with; what it refuses leaves the running
// engine as it is, with its process, its users and their sessions.
import { randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Access } from '@penstock/domain/access';
import { systemClock } from '@penstock/domain/clock';
import { newId } from '@penstock/domain/ids';
import type { SubscriptionId, TenantId } from '@penstock/domain/ids';
import { NodeConfig } from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import { createLogger } from '@penstock/service/logger';
import { freePort } from '@penstock/testkit/traffic/xray-client';
import { configSchema } from '../config.js';
import { EngineHost } from './host.js';
import { engineFactories } from './make.js';
import { processesOn } from './xray/proc.js';

const bin = process.env['XRAY_BIN'] ?? '';
const STARTS = 20;

function newAccess(): Access {
  const vlessId = randomUUID().replace(/^(.{14})....(.{19})$/, '$10000$2');
  return {
    tenantId: newId<TenantId>(),
    subscriptionId: newId<SubscriptionId>(),
    xray: { vlessId, flow: '' },
  };
}

const reality = {
  security: 'reality',
  privateKey: randomBytes(32).toString('base64url'),
  shortIds: ['0123456789abcdef'],
  serverNames: ['example.com'],
  target: 'example.com:443',
};

describe.skipIf(bin === '')('the engines of a node', () => {
  let dir: string;
  let host: EngineHost;
  let port: number;

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'penstock-host-'));
    port = await freePort();
    const config = configSchema.parse({
      NODE_ENV: 'test',
      TRUST_DOMAIN: 'penstock.internal',
      AGENT_DIR: dir,
      ENGINES: 'xray',
      XRAY_BIN: bin,
    });
    const log = createLogger('test', 'silent');
    host = new EngineHost(engineFactories({ config, clock: systemClock, log, onDied: () => undefined }), log);
  });
  afterEach(async () => {
    await host.stopAll();
    rmSync(dir, { recursive: true });
  });

  const running = () => processesOn(join(dir, 'xray', 'config.json'));
  const inbound = (settings: object, tag = 'vless', at = port) => ({
    ...{ tag, engine: 'xray', port: at },
    settings: JSON.stringify(settings),
  });
  async function configure(...inbounds: ReturnType<typeof inbound>[]): Promise<number> {
    let stopped = 0;
    await host.configure(
      Buffer.from(NodeConfig.encode({ inbounds, windowMs: 1000 }).finish()),
      async () => void (stopped += 1),
    );
    return stopped;
  }

  test('a configuration that is refused leaves the running one, its process and its users [V32]', async () => {
    const access = newAccess();
    await configure(inbound({ security: 'none' }));
    await host.startAll([access]);
    const [before] = await running();
    expect(before).toBeDefined();
    const refused = [
      [inbound({ security: 'none' }, 'api')],
      [inbound({ security: 'none' }, 'a b')],
      [inbound({ security: 'none' }, 'one'), inbound({ security: 'none' }, 'two')],
      [inbound({ security: 'none' }, 'zero', 0)],
      [inbound({ security: 'tls' })],
      [inbound({ security: 'reality' })],
      [inbound({ ...reality, privateKey: 'short' })],
      [inbound({ ...reality, shortIds: ['abc'] })],
      [inbound({ ...reality, serverNames: [] })],
      [inbound({ ...reality, serverNames: 'example.com' })],
      [inbound({ ...reality, target: 'nowhere' })],
      [{ ...inbound({}), settings: '{"security":' }],
      [{ ...inbound({}), settings: '' }],
    ];
    for (const inbounds of refused) {
      expect(await configure(...inbounds)).toBe(0);
      await host.startAll([access]);
      expect(await running()).toEqual([before]);
      const engine = host.get('xray');
      expect(await engine?.health()).toMatchObject({ running: true, problem: '' });
      expect([...((await engine?.readBack())?.admitted.values() ?? [])]).toEqual([access]);
    }
    // A good one after them is taken, in a process of its own.
    expect(await configure(inbound(reality))).toBe(1);
    await host.startAll([access]);
    const [after] = await running();
    expect(after?.pid).not.toBe(before?.pid);
    expect(await host.get('xray')?.health()).toMatchObject({ running: true, problem: '' });
  });

  test(
    `${STARTS} generated configurations that are accepted: the real Xray starts with each [V32]`,
    { timeout: 120_000 },
    async () => {
      const hex = (bytes: number) => fc.uint8Array({ minLength: bytes, maxLength: bytes });
      const settings = fc.oneof(
        fc.constant({ security: 'none' as const }),
        fc.record({
          security: fc.constant('reality' as const),
          privateKey: hex(32).map((bytes) => Buffer.from(bytes).toString('base64url')),
          shortIds: fc.array(
            fc.nat(8).chain((n) => hex(n).map((bytes) => Buffer.from(bytes).toString('hex'))),
            { minLength: 1, maxLength: 4 },
          ),
          serverNames: fc.array(fc.oneof(fc.domain(), fc.string({ unit: 'binary' })), {
            minLength: 1,
            maxLength: 3,
          }),
          target: fc.oneof(
            fc.tuple(fc.domain(), fc.integer({ min: 1, max: 65_535 })).map(([name, at]) => `${name}:${at}`),
            fc.ipV6().map((address) => `[${address.toLowerCase()}]:443`),
          ),
        }),
      );
      const tag = fc.stringMatching(/^[b-z][a-z0-9-]{4,31}$/);
      let started = 0;
      await fc.assert(
        fc.asyncProperty(fc.uniqueArray(tag, { minLength: 1, maxLength: 3 }), settings, async (tags, one) => {
          const ports = await Promise.all(tags.map(() => freePort()));
          fc.pre(new Set(ports).size === ports.length);
          const access = newAccess();
          await configure(...tags.map((name, i) => inbound(one, name, ports[i])));
          const status = async () => (await host.status())[0];
          // Told at once when validation refused it; what it took must run.
          const said = (await status())?.problem ?? '';
          if (/malformed|must be|is needed|needs its settings/.test(said)) return;
          await host.startAll([access]);
          expect(await status()).toMatchObject({ running: true, problem: '' });
          started += 1;
        }),
        { numRuns: STARTS },
      );
      expect(started).toBeGreaterThan(STARTS / 2);
    },
  );
});
