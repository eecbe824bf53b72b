// Health, readiness and metrics: who may ask, and what an answer holds.
import { networkInterfaces } from 'node:os';
import { afterEach, describe, expect, test } from 'vitest';
import { createMetrics } from './metrics.js';
import { parseCidrs, startOpsServer, type OpsServer } from './ops-server.js';

const open: OpsServer[] = [];
afterEach(() => Promise.all(open.splice(0).map((server) => server.close())));

/** This machine under an address that is not loopback, as another machine of its network would come from one. */
const outside = Object.values(networkInterfaces())
  .flatMap((addresses) => addresses ?? [])
  .find(({ internal, family }) => !internal && family === 'IPv4')?.address;

async function start(allow: string, ready = true): Promise<number> {
  const { registry } = createMetrics();
  const reasons = ready ? [] : ['database'];
  const server = await startOpsServer({
    ...{ host: '0.0.0.0', port: 0, allow, registry },
    ready: () => ({ ready, reasons }),
  });
  open.push(server);
  return server.port;
}

describe('the operations server', () => {
  test.runIf(outside !== undefined)(
    'answers the networks that are listed and nobody else, whatever a header says [R1-26, R3-06]',
    async () => {
      const port = await start('127.0.0.0/8');
      for (const path of ['/health', '/ready', '/metrics', '/', '/metrics?x']) {
        const from = async (address: string, headers: Record<string, string> = {}) =>
          fetch(`http://${address}:${port}${path}`, { headers });
        const headers = {
          'x-forwarded-for': '127.0.0.1',
          forwarded: 'for=127.0.0.1',
          'x-real-ip': '127.0.0.1',
        };
        // To the own outer address one comes from that address.
        for (const sent of [{}, headers]) {
          const answer = await from(outside ?? '', sent);
          expect([answer.status, await answer.text()], path).toEqual([403, 'forbidden\n']);
        }
        expect((await from('127.0.0.1')).status, path).not.toBe(403);
      }
      const listed = await start(`127.0.0.0/8,${outside}/32`);
      expect((await fetch(`http://${outside}:${listed}/metrics`)).status).toBe(200);
    },
  );

  test.each([
    '',
    ' ',
    '0.0.0.0/0',
    '::/0',
    '127.0.0.0/8,',
    '127.0.0.1',
    'localhost',
    '10.0.0.0/33',
    '10.0.0.0/x',
  ])('does not start with the list “%s” [R1-26]', async (allow) => {
    expect(() => parseCidrs(allow, 'OPS_ALLOW')).toThrow('OPS_ALLOW');
    await expect(start(allow)).rejects.toThrow('OPS_ALLOW');
  });

  test('says healthy, ready and why not, in bodies of a fixed shape [R2-28, R1-26]', async () => {
    const ask = async (port: number, path: string) => {
      const answer = await fetch(`http://127.0.0.1:${port}${path}`);
      expect(answer.headers.get('cache-control')).toBe('no-store');
      return [answer.status, await answer.json()];
    };
    const good = await start('127.0.0.0/8');
    expect(await ask(good, '/health')).toEqual([200, { status: 'ok' }]);
    expect(await ask(good, '/ready')).toEqual([200, { ready: true, reasons: [] }]);
    const bad = await start('127.0.0.0/8', false);
    expect(await ask(bad, '/health')).toEqual([200, { status: 'ok' }]);
    expect(await ask(bad, '/ready')).toEqual([503, { ready: false, reasons: ['database'] }]);
  });
});
