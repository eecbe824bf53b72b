// Stands for an agent that is killed at any moment: drives the built WireGuard engine without rest, taking one
// customer's access away and giving it back, and prints every reading that it was shown before it goes on.
// Stdin: one JSON line {options, keep: Access, toggle: Access}.
import { writeSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { WireguardEngine } from '../dist/engines/wireguard/wireguard.engine.js';
import { systemClock } from '@penstock/domain/clock';

const { options, keep, toggle } = JSON.parse(await text(process.stdin));
const say = (line) =>
  writeSync(1, `${JSON.stringify(line, (_, v) => (typeof v === 'bigint' ? String(v) : v))}\n`);
const log = {
  info: () => undefined,
  warn: (_, message) => say({ event: 'warn', message }),
  error: () => undefined,
};
const engine = new WireguardEngine({ ...options, clock: systemClock, log });
const journal = async () => say({ event: 'readings', readings: await engine.counters() });

await engine.start([keep, toggle], journal);
say({ event: 'started' });
for (let turn = 0; ; turn += 1) {
  await journal();
  if (turn % 40 === 3) await engine.apply([{ ...toggle, wireguard: [] }], journal);
  if (turn % 40 === 4) await engine.apply([toggle], journal);
}
