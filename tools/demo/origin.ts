// "The internet": an origin that sends and swallows exact numbers of bytes, in a namespace of its own where root allows.
// Called by main.ts.
import { followLines } from '@penstock/testkit/netns/lines';
import { createNamespace } from '@penstock/testkit/netns/netns';
import type { Place } from './place.js';
import { startProgram, type AtEnd } from './program.js';

const START_TIMEOUT_MS = 20_000;
const PORT = 8080;

export interface OriginMachine {
  host: string;
  port: number;
  /** It sends nothing from here on, and nobody's connection ends: what is on its way arrives, figures stand still. */
  fallSilent(): void;
}

export async function startOriginMachine(place: Place, atEnd: AtEnd): Promise<OriginMachine> {
  const namespace = place.namespaces
    ? await createNamespace({ range: 'internet', defaultRoute: true })
    : null;
  if (namespace !== null) atEnd(() => namespace.destroy());
  const args = namespace === null ? [] : ['--host', namespace.address, '--port', String(PORT)];
  const program = startProgram('@penstock/testkit/traffic/origin', namespace, atEnd, args);
  const ready = await followLines(program).next(({ event }) => event === 'ready', {
    past: true,
    timeoutMs: START_TIMEOUT_MS,
  });
  return {
    host: String(ready['host']),
    port: Number(ready['port']),
    fallSilent: () => void program.kill('SIGSTOP'),
  };
}
