// The WireGuard interface itself: the kernel's when `ip link add type wireguard` succeeds, else one wireguard-go of
// its own session, which outlives the agent. A record (0600) written before and after the start names whose it is:
// only what the record names is adopted or deleted, never somebody else's interface of that name.
// The kernel branch differs in three lines and in the channel; it is untested on machines without the module.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { z } from 'zod';
import { AppError } from '@penstock/domain/errors';
import { kernelBootId, processLife, stillRuns } from '../process-life.js';
import type { Channel } from './channel.js';
import { run } from '../command.js';
import { writeDurably } from './peer-book.js';
import { UapiChannel } from './uapi.channel.js';
import { WgChannel } from './wg.channel.js';

const START_TIMEOUT_MS = 10_000;
const END_TIMEOUT_MS = 5_000;
/** The kernel removes a dead wireguard-go's interface a moment after the process. */
const LINGER_MS = 1_000;
const POLL_MS = 5;
const LOG_TAIL_BYTES = 400;

export interface DeviceOptions {
  /** Path of wireguard-go; null when none was found (then only the kernel module serves). */
  wireguardGoBin: string | null;
  /** Runtime directory, 0700. */
  dir: string;
  interfaceName: string;
}

export interface Device {
  kind: 'kernel' | 'userspace';
  /** Names one life of the interface; peers and their counters die with it. */
  life: string;
  adopted: boolean;
  channel: Channel;
}

const recordSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('starting'), kernelBootId: z.string() }),
  z.strictObject({ kind: z.literal('kernel'), kernelBootId: z.string(), ifindex: z.string() }),
  z.strictObject({
    kind: z.literal('userspace'),
    kernelBootId: z.string(),
    pid: z.int().positive(),
    startTime: z.string(),
  }),
]);
type DeviceRecord = z.infer<typeof recordSchema>;

function recordFile(options: DeviceOptions): string {
  return join(options.dir, `${options.interfaceName}.device.json`);
}

/** Socket of wireguard-go: one directory for all network namespaces, so names must be unique on the machine. */
export function socketPath(interfaceName: string): string {
  return `/var/run/wireguard/${interfaceName}.sock`;
}

/** Empty when this process may drive WireGuard; otherwise one sentence that says what to do. */
export async function missingPrivilege(): Promise<string> {
  let status: string;
  try {
    status = await readFile('/proc/self/status', 'utf8');
  } catch {
    return 'WireGuard nodes need Linux; run the agent on a Linux machine.';
  }
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  const NET_ADMIN = 12n;
  if ((effective >> NET_ADMIN) & 1n) return '';
  return 'WireGuard needs root or CAP_NET_ADMIN; start the agent with it, or leave WireGuard off on this node.';
}

/** Adopts the interface that the record names, or makes a new one. */
export async function openDevice(options: DeviceOptions): Promise<Device> {
  const record = await readRecord(options);
  const adopted = record === null ? null : await adopt(options, record);
  if (adopted !== null) return adopted;
  await clearWay(options, record);
  await writeRecord(options, { kind: 'starting', kernelBootId: await kernelBootId() });
  return (await createKernel(options)) ?? (await createUserspace(options));
}

/** True while the interface of this life is there. */
export async function isAlive(options: DeviceOptions, device: Device): Promise<boolean> {
  const record = await readRecord(options);
  return record !== null && lifeOf(record) === device.life && (await recordLives(options, record));
}

/** Ends the interface and its process; peers and counters go with it. Nothing happens when there is none. */
export async function removeDevice(options: DeviceOptions): Promise<void> {
  const record = await readRecord(options);
  if (record === null) return;
  if (record.kind === 'userspace') await endProcess(record);
  else if (await interfaceExists(options)) await run('ip', ['link', 'delete', 'dev', options.interfaceName]);
  await until(async () => !(await interfaceExists(options)), END_TIMEOUT_MS);
  await rm(recordFile(options), { force: true });
}

async function adopt(options: DeviceOptions, record: DeviceRecord): Promise<Device | null> {
  if (record.kind === 'starting' || !(await recordLives(options, record))) return null;
  const device = deviceOf(options, record, true);
  try {
    await device.channel.read();
    return device;
  } catch {
    return null; // alive but deaf: it is ended and replaced
  }
}

function deviceOf(options: DeviceOptions, record: DeviceRecord, adopted: boolean): Device {
  const kind = record.kind === 'kernel' ? 'kernel' : 'userspace';
  const channel =
    kind === 'kernel'
      ? new WgChannel(options.interfaceName, options.dir)
      : new UapiChannel(socketPath(options.interfaceName));
  return { kind, life: lifeOf(record), adopted, channel };
}

function lifeOf(record: DeviceRecord): string {
  switch (record.kind) {
    case 'starting':
      return '';
    case 'kernel':
      return `${record.kernelBootId}:if${record.ifindex}`;
    case 'userspace':
      return `${record.kernelBootId}:${record.pid}:${record.startTime}`;
  }
}

async function recordLives(options: DeviceOptions, record: DeviceRecord): Promise<boolean> {
  if (record.kind === 'starting') return false;
  if (record.kind === 'userspace') return stillRuns(record);
  return record.kernelBootId === (await kernelBootId()) && record.ifindex === (await interfaceIndex(options));
}

/** Removes what is left of our own earlier interface; refuses to touch anybody else's. */
async function clearWay(options: DeviceOptions, record: DeviceRecord | null): Promise<void> {
  const { interfaceName } = options;
  if (record?.kind === 'userspace') {
    await endProcess(record);
    await until(async () => !(await interfaceExists(options)), LINGER_MS);
  }
  if (!(await interfaceExists(options))) return;
  const ours =
    record !== null && record.kernelBootId === (await kernelBootId()) && record.kind === 'starting';
  if (!ours) {
    const words = `the interface ${interfaceName} exists and was not made by this agent; delete it or choose another name`;
    throw new AppError('failed_precondition', words, { field: 'interfaceName' });
  }
  await run('ip', ['link', 'delete', 'dev', interfaceName]);
  await until(async () => !(await interfaceExists(options)), END_TIMEOUT_MS);
}

async function createKernel(options: DeviceOptions): Promise<Device | null> {
  try {
    await run('wg', ['--version']);
    await run('ip', ['link', 'add', 'dev', options.interfaceName, 'type', 'wireguard']);
  } catch {
    return null; // no module (or no wg to drive it): wireguard-go
  }
  const ifindex = (await interfaceIndex(options)) ?? '';
  const record: DeviceRecord = { kind: 'kernel', kernelBootId: await kernelBootId(), ifindex };
  await writeRecord(options, record);
  return deviceOf(options, record, false);
}

async function createUserspace(options: DeviceOptions): Promise<Device> {
  const { wireguardGoBin, interfaceName } = options;
  if (wireguardGoBin === null) {
    const words =
      'neither the WireGuard kernel module nor wireguard-go was found; install wireguard-go or set WIREGUARD_GO_BIN';
    throw new AppError('failed_precondition', words);
  }
  const log = await open(join(options.dir, `${interfaceName}.log`), 'w', 0o600);
  let ended = '';
  const child = spawn(wireguardGoBin, ['-f', interfaceName], {
    detached: true, // a session of its own: it outlives the agent and its terminal
    stdio: ['ignore', log.fd, log.fd],
    env: { LOG_LEVEL: 'error' },
    cwd: '/',
  });
  child.on('error', (error) => (ended = error.message));
  child.on('exit', (code, signal) => (ended = `ended with ${signal ?? String(code)}`));
  child.unref();
  await log.close();
  const channel = new UapiChannel(socketPath(interfaceName));
  const answered = await until(async () => ended !== '' || (await answers(channel)), START_TIMEOUT_MS);
  const life = child.pid === undefined ? null : await processLife(child.pid);
  if (ended !== '' || !answered || life === null) {
    child.kill('SIGKILL');
    const words = `wireguard-go did not start (${ended || 'no answer in time'}): ${await logTail(options)}`;
    throw new AppError('failed_precondition', words);
  }
  const record: DeviceRecord = { kind: 'userspace', ...life };
  await writeRecord(options, record);
  return deviceOf(options, record, false);
}

async function answers(channel: Channel): Promise<boolean> {
  return channel.read().then(
    () => true,
    () => false,
  );
}

/** The socket of a dead wireguard-go stays behind; the next one removes it by itself. */
async function endProcess(record: Extract<DeviceRecord, { kind: 'userspace' }>): Promise<void> {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    if (!(await stillRuns(record))) return;
    process.kill(record.pid, signal);
    await until(async () => !(await stillRuns(record)), END_TIMEOUT_MS);
  }
}

async function logTail(options: DeviceOptions): Promise<string> {
  const text = await readFile(join(options.dir, `${options.interfaceName}.log`), 'utf8').catch(() => '');
  return text.slice(-LOG_TAIL_BYTES).trim().split('\n').at(-1) ?? '';
}

async function interfaceExists(options: DeviceOptions): Promise<boolean> {
  return existsSync(`/sys/class/net/${options.interfaceName}`);
}

async function interfaceIndex(options: DeviceOptions): Promise<string | null> {
  const path = `/sys/class/net/${options.interfaceName}/ifindex`;
  return readFile(path, 'utf8').then(
    (text) => text.trim(),
    () => null,
  );
}

async function readRecord(options: DeviceOptions): Promise<DeviceRecord | null> {
  const text = await readFile(recordFile(options), 'utf8').catch(() => null);
  if (text === null) return null;
  try {
    return recordSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

async function writeRecord(options: DeviceOptions, record: DeviceRecord): Promise<void> {
  await writeDurably(recordFile(options), JSON.stringify(record));
}

/** Polls a condition; false when it did not come true in time. */
async function until(condition: () => Promise<boolean>, timeoutMs: number): Promise<boolean> {
  for (let turn = 0; turn * POLL_MS < timeoutMs; turn += 1) {
    if (await condition()) return true;
    await wait(POLL_MS);
  }
  return condition();
}
