// What npm start runs after the build: the whole product on this terminal, until Ctrl-C. The API does not wait for
// engines; the local node's agent starts with the first engine and again when another arrives.
import { existsSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { systemClock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import { loadConfigOrExit } from '@penstock/service/config';
import { startConfigSchema, type StartConfig } from '../config.js';
import type { Engine } from '../engine-find.js';
import { findWireguard, findXray } from '../engine-find.js';
import { engineOptions } from '../engine-options.js';
import { provideWireguard, provideXray } from '../engines.js';
import { repoRoot } from '../paths.js';
import { findRedis } from '../redis.js';
import { startStack, type Stack } from '../stack.js';

const say = (line: string): void => void process.stdout.write(`  ${line}\n`);

const config = loadConfigOrExit(startConfigSchema);
const stopping = stopRequest(config.PENSTOCK_OWNER_FD);

try {
  const stack = await bringUp(config);
  if (stack !== null) {
    welcome(stack);
    void followEngines(stack, config);
    say(`Stopping (${await stopping.reason}) …`);
    await stack.stop();
    say('Stopped.');
  }
  process.exit(0);
} catch (error) {
  const message = error instanceof AppError ? error.message : String((error as Error).stack ?? error);
  process.stderr.write(`\n${message}\n`);
  process.exit(1);
}

/** Null when the operator stopped us meanwhile. */
async function bringUp(start: StartConfig): Promise<Stack | null> {
  const options = engineOptions(start, say);
  // A named engine that is not there is a mistake to tell at once.
  if (start.XRAY_BIN !== undefined) await findXray(options.search);
  if (start.WIREGUARD_GO_BIN !== undefined) await findWireguard(options.search, true);
  const redis = await findRedis(start.REDIS_URL);
  say(redis.note);
  const stack = await startStack({
    dir: start.PENSTOCK_DIR ?? join(repoRoot, '.penstock'),
    edge: start.PENSTOCK_EDGE,
    localNode: { address: start.LOCAL_NODE_ADDRESS },
    ports: { api: start.HTTP_PORT, apiPreferred: 7400, postgresql: start.POSTGRES_PORT },
    httpHost: start.HTTP_HOST,
    edgeHost: start.EDGE_HOST,
    edgeName: start.EDGE_NAME,
    publicUrl: start.PUBLIC_URL,
    redisUrl: redis.url,
    logLevel: start.LOG_LEVEL,
    killOnExit: false,
    say,
  });
  if (!stopping.requested()) return stack;
  await stack.stop();
  return null;
}

function welcome(stack: Stack): void {
  const lines = ['', `API      ${stack.edges.api}`, `API docs ${stack.edges.api}/api/v1/reference`];
  if (stack.setupNeeded) lines.push(`Set up   ${stack.setupUrl}`, '         (once, for the first owner)');
  lines.push('Admins   from this machine and private networks; ./penstock config allow CIDR adds others');
  lines.push(`Data     ${stack.paths.dir}`, 'Stop     Ctrl-C', '');
  for (const line of lines) say(line);
}

/** Starts the local agent with the engines as they become available. */
async function followEngines(stack: Stack, start: StartConfig): Promise<void> {
  // A build that Ctrl-C ended is no news.
  const options = engineOptions(start, (line) => {
    if (!stopping.requested()) say(line);
  });
  const there: Engine[] = [];
  const arrived = async (engine: Engine | null): Promise<void> => {
    if (engine === null || stopping.requested()) return;
    there.push(engine);
    const path = (name: Engine['name']): string | undefined => there.find((one) => one.name === name)?.path;
    await stack.addAgent({
      name: 'local',
      engines: there.map(({ name }) => name),
      xrayBin: path('xray'),
      wireguardGoBin: path('wireguard'),
      joinTokenFile: existsSync(stack.localTokenFile) ? stack.localTokenFile : undefined,
      // Two clones on one machine must not take each other's interface (15 characters at most).
      env: { AGENT_STOP_ENGINES: '1', WG_INTERFACE: `penstock${stack.paths.id.slice(0, 6)}` },
    });
    say(`Local node: runs ${there.map(({ note }) => note).join(' and ')}`);
  };
  try {
    // What is there already starts together; what must be built follows.
    const xray = await findXray(options.search);
    const wireguard = options.root ? await findWireguard(options.search, false) : null;
    if (xray !== null && wireguard !== null) {
      there.push(wireguard);
      await arrived(xray);
      return;
    }
    await arrived(wireguard ?? (await provideWireguard(options)));
    await arrived(xray ?? (await provideXray(options)));
    if (there.length === 0) options.say('Local node: no engine, so it is not started; everything else works');
  } catch (error) {
    if (!stopping.requested()) say(`Local node: ${(error as Error).message}`);
  }
}

/** Ctrl-C, SIGTERM, a closed terminal, or the end of whoever started us. A second one ends at once. */
function stopRequest(ownerFd: number | undefined): { reason: Promise<string>; requested(): boolean } {
  let asked = false;
  let askedAt = 0;
  const reason = new Promise<string>((resolve) => {
    const ask = (why: string): void => {
      if (!asked) askedAt = systemClock.monotonic();
      asked = true;
      resolve(why);
    };
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => {
        // The same Ctrl-C reaches us twice, from the terminal and through npm: only a later one means "now".
        if (asked && signal === 'SIGINT' && systemClock.monotonic() - askedAt > 1_000) process.exit(130);
        ask(signal === 'SIGINT' ? 'Ctrl-C' : signal);
      });
    }
    if (ownerFd === undefined) return;
    // A socket, not a file stream: a blocked read in the thread pool would keep process.exit() waiting.
    const owner = new Socket({ fd: ownerFd, readable: true, writable: false });
    owner.on('error', () => ask('launcher gone'));
    owner.on('end', () => ask('launcher gone'));
    owner.resume();
  });
  return { reason, requested: () => asked };
}
