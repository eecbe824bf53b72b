// Ports of a stack: free ones, picked once and kept in ports.json, so that bookmarks, join tokens and database
// addresses stay good over restarts. A remembered port that somebody else took meanwhile is picked again,
// unless it is pinned: asked for by the operator, or known to others already. Called by startStack.
import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { AppError } from '@penstock/domain/errors';
import { readIfThere, writePrivate } from './files.js';

// Below the range that kernels give to outgoing connections (Linux 32768, BSD 49152).
const lowest = 20_000;
const highest = 32_000;
const triesMax = 200;

export interface PortWish {
  /** Asked for by the operator: taken as it is, or refused with a clear sentence. */
  fixed?: number | undefined;
  /** Tried before a random one. */
  preferred?: number | undefined;
  /** Somebody outside knows the remembered port: kept, also while something (an adopted process) listens on it. */
  pinned?: boolean;
  protocol?: 'tcp' | 'udp';
}

// Two stacks of one process (tests) must not get the same port between picking and listening.
const givenOut = new Set<number>();

export class PortBook {
  private readonly ports = new Map<string, number>();

  private constructor(private readonly file: string) {}

  static async open(file: string): Promise<PortBook> {
    const book = new PortBook(file);
    const text = await readIfThere(file);
    if (text === null) return book;
    const saved = parsePorts(text);
    if (saved === null)
      throw new AppError('failed_precondition', `${file} is not readable as ports; remove it.`);
    for (const [name, port] of saved) book.ports.set(name, port);
    return book;
  }

  /** The port called `name`: remembered, asked for or newly picked. */
  async get(name: string, wish: PortWish = {}): Promise<number> {
    const protocol = wish.protocol ?? 'tcp';
    if (wish.fixed !== undefined) {
      if (!(await isFree(wish.fixed, protocol))) {
        throw new AppError(
          'failed_precondition',
          `Port ${wish.fixed} (${name}) is taken by another process.`,
        );
      }
      return this.remember(name, wish.fixed);
    }
    const remembered = this.ports.get(name);
    if (remembered !== undefined && (wish.pinned === true || (await isFree(remembered, protocol)))) {
      givenOut.add(remembered);
      return remembered;
    }
    for (let attempt = 0; attempt < triesMax; attempt += 1) {
      const port =
        attempt === 0 && wish.preferred !== undefined ? wish.preferred : randomInt(lowest, highest);
      if (givenOut.has(port)) continue;
      if (await isFree(port, protocol)) return this.remember(name, port);
    }
    throw new AppError('unavailable', `No free port for ${name} between ${lowest} and ${highest}.`);
  }

  async save(): Promise<void> {
    await writePrivate(this.file, `${JSON.stringify(Object.fromEntries(this.ports), null, 2)}\n`);
  }

  private remember(name: string, port: number): number {
    givenOut.add(port);
    this.ports.set(name, port);
    return port;
  }
}

function parsePorts(text: string): [string, number][] | null {
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed !== 'object' || parsed === null) return null;
    const entries = Object.entries(parsed);
    const good = entries.every((entry) => Number.isInteger(entry[1]) && entry[1] > 0 && entry[1] < 65536);
    return good ? (entries as [string, number][]) : null;
  } catch {
    return null;
  }
}

/** True when nobody listens on the port, on any address. */
export async function isFree(port: number, protocol: 'tcp' | 'udp' = 'tcp'): Promise<boolean> {
  return protocol === 'tcp'
    ? (await tcpFree(port, '127.0.0.1')) && (await tcpFree(port, '0.0.0.0'))
    : udpFree(port);
}

function tcpFree(port: number, host: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen({ port, host, exclusive: true }, () => probe.close(() => resolve(true)));
  });
}

function udpFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createSocket('udp4');
    probe.once('error', () => resolve(false));
    probe.bind({ port, address: '0.0.0.0', exclusive: true }, () => probe.close(() => resolve(true)));
  });
}
