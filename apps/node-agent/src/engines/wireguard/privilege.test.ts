import { tmpdir } from 'node:os';
import { expect, test } from 'vitest';
import { systemClock } from '@penstock/domain/clock';
import { newWireguardPrivateKey } from '@penstock/domain/wireguard-keys';
import { missingPrivilege } from './device.js';
import { WireguardEngine } from './wireguard.engine.js';

const silent = (): void => undefined;

test('without the right to change the network it says so in one sentence and does not start', async () => {
  const engine = new WireguardEngine({
    wireguardGoBin: null,
    dir: `${tmpdir()}/penstock-never-made`,
    interfaceName: 'penstocknever',
    listenPort: 51_820,
    privateKey: newWireguardPrivateKey(),
    subnets: ['10.66.0.0/16'],
    blockPrivateEgress: true,
    allowEgress: [],
    clock: systemClock,
    log: { info: silent, warn: silent, error: silent },
  });
  const problem = await missingPrivilege();
  const health = await engine.health();
  expect(health.running).toBe(false);
  expect(health.problem).toMatch(/^[^.]+\.$/);
  if (problem === '') return; // root: the engine's own tests go on from here
  expect(health.problem).toBe(problem);
  await expect(engine.start([])).rejects.toMatchObject({ code: 'failed_precondition' });
});
