// Network namespaces for tests and the demo: customers' machines and origins "on the internet", each with one veth
// pair to the host. Namespaces carry the pid of their maker in their name, so what a killed run left behind is found
// and swept by the next one, and runs side by side do not disturb each other. Root only; Linux only.
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';

const PREFIX = 'pst';
const COMMAND_TIMEOUT_MS = 20_000;
const ADDRESS_TRIES_MAX = 50;
const END_TURN_MS = 20;
const END_TURNS_MAX = 25;

export interface NamespaceOptions {
  /** `customer`: 10.231.x.y/30. `internet`: 198.18.0.0/15, which no firewall of ours takes for private. */
  range: 'customer' | 'internet';
  /**
   * A default route through the host. Off by default: a customer's packet that misses its tunnel then goes nowhere,
   * instead of reaching the origin around the engine.
   */
  defaultRoute?: boolean;
  /** More addresses of the namespace, each with a host route ("10.99.0.7"). Never one that the host really uses. */
  extraAddresses?: string[];
}

export interface CommandResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface Namespace {
  name: string;
  /** Inside the namespace. */
  address: string;
  /** The host's end of the pair, on the host. */
  hostAddress: string;
  hostInterface: string;
  /** argv that runs `argv` inside. */
  argv(argv: string[]): string[];
  run(argv: string[], stdin?: string): Promise<CommandResult>;
  /** A long-running process inside; it is killed with the namespace. */
  spawn(argv: string[], env?: NodeJS.ProcessEnv): ChildProcess;
  /** Ends what runs inside and removes the namespace with its pair. Safe to call again. */
  destroy(): Promise<void>;
}

let made = 0;

/** True where namespaces can be made. Tests that need them carry `needs root` in their name otherwise. */
export function canUseNetns(): boolean {
  return process.platform === 'linux' && process.getuid?.() === 0 && existsSync('/proc/self/ns/net');
}

/** A new namespace, up and with its addresses. */
export async function createNamespace(options: NamespaceOptions): Promise<Namespace> {
  const id = `${process.pid.toString(36)}x${(made += 1).toString(36)}`;
  const name = `${PREFIX}${id}`;
  const hostInterface = `${PREFIX}h${id}`;
  const inside = `${PREFIX}c${id}`;
  const [hostAddress, address] = await freePair(options.range);
  const namespace: Namespace = {
    name,
    address,
    hostAddress,
    hostInterface,
    argv: (argv) => ['ip', 'netns', 'exec', name, ...argv],
    run: (argv, stdin) => runCommand(namespace.argv(argv), stdin),
    spawn: (argv, env) => {
      const [file = '', ...args] = namespace.argv(argv);
      return spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'], env: env ?? process.env });
    },
    destroy: () => destroyNamespace(name),
  };
  try {
    await must(['ip', 'netns', 'add', name]);
    await must(['ip', 'link', 'add', hostInterface, 'type', 'veth', 'peer', 'name', inside, 'netns', name]);
    await must(['ip', 'address', 'add', `${hostAddress}/30`, 'dev', hostInterface]);
    await must(['ip', 'link', 'set', hostInterface, 'up']);
    await must(['ip', '-n', name, 'link', 'set', 'lo', 'up']);
    await must(['ip', '-n', name, 'address', 'add', `${address}/30`, 'dev', inside]);
    await must(['ip', '-n', name, 'link', 'set', inside, 'up']);
    if (options.defaultRoute) await must(['ip', '-n', name, 'route', 'add', 'default', 'via', hostAddress]);
    for (const extra of options.extraAddresses ?? []) {
      await must(['ip', '-n', name, 'address', 'add', `${extra}/32`, 'dev', inside]);
      await must(['ip', 'route', 'add', `${extra}/32`, 'via', address]);
    }
  } catch (error) {
    await namespace.destroy();
    throw error;
  }
  return namespace;
}

/** Removes namespaces of processes that are no more. Call it before making the first. */
export async function sweepNamespaces(): Promise<string[]> {
  const folder = '/var/run/netns';
  const names = existsSync(folder) ? readdirSync(folder) : [];
  const dead = names.filter((name) => {
    const pid = new RegExp(`^${PREFIX}([0-9a-z]+)x[0-9a-z]+$`).exec(name)?.[1];
    return pid !== undefined && !existsSync(`/proc/${parseInt(pid, 36)}`);
  });
  for (const name of dead) await destroyNamespace(name);
  return dead;
}

/** Runs argv on the host; throws with its stderr when it fails. */
export async function must(argv: string[], stdin?: string): Promise<string> {
  const result = await runCommand(argv, stdin);
  if (result.code !== 0) throw new Error(`${argv.slice(0, 6).join(' ')}: ${result.stderr.trim()}`);
  return result.stdout;
}

async function destroyNamespace(name: string): Promise<void> {
  // Gently first: wireguard-go removes its control socket when it is asked to end.
  await signalAll(name, 'SIGTERM');
  for (let turn = 0; turn < END_TURNS_MAX && (await pidsIn(name)).length > 0; turn += 1) {
    await new Promise((resolve) => setTimeout(resolve, END_TURN_MS));
  }
  await signalAll(name, 'SIGKILL');
  // The host's end goes at once; with the namespace it would only go when the last process is reaped.
  await runCommand(['ip', 'link', 'delete', name.replace(PREFIX, `${PREFIX}h`)]);
  await runCommand(['ip', 'netns', 'delete', name]);
}

async function pidsIn(name: string): Promise<number[]> {
  const { stdout } = await runCommand(['ip', 'netns', 'pids', name]);
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map(Number);
}

async function signalAll(name: string, signal: NodeJS.Signals): Promise<void> {
  for (const pid of await pidsIn(name)) {
    try {
      process.kill(pid, signal);
    } catch {
      // ended by itself meanwhile
    }
  }
}

/** A /30 that no interface of the host uses: [host's address, namespace's address]. */
async function freePair(range: NamespaceOptions['range']): Promise<[string, string]> {
  const used = await must(['ip', '-4', '-o', 'address', 'show']);
  for (let turn = 0; turn < ADDRESS_TRIES_MAX; turn += 1) {
    const third = randomInt(256);
    const fourth = randomInt(64) * 4;
    const base = range === 'customer' ? `10.231.${third}` : `198.${18 + randomInt(2)}.${third}`;
    if (!used.includes(` ${base}.${fourth + 1}/`)) return [`${base}.${fourth + 1}`, `${base}.${fourth + 2}`];
  }
  throw new Error('no free address range for a namespace');
}

async function runCommand(argv: string[], stdin = ''): Promise<CommandResult> {
  await mkdir('/var/run/netns', { recursive: true });
  const [file = '', ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'], timeout: COMMAND_TIMEOUT_MS });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (data: Buffer) => (stdout += data.toString()));
    child.stderr.on('data', (data: Buffer) => (stderr += data.toString()));
    child.stdin.on('error', () => undefined);
    child.stdin.end(stdin);
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}
