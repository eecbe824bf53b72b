// Xray's access log, read from a FIFO: the only place that tells which customer holds which connection.
// Why a FIFO: the log names what customers visit, so it must never lie on a disk, and it must not grow while no agent
// reads it. The kernel keeps at most 64 KiB (about 600 lines); Xray never waits for us: its logger queues 128 lines
// and drops the rest, and traffic goes on [common/log/logger.go of 26.3.27]. Xray itself holds the FIFO open for
// reading and writing (process.ts), so nothing is lost while the agent restarts, and its end here means Xray's end.
// Of a line we keep port, address and customer; the destination is forgotten in this function.
import { execFile } from 'node:child_process';
import { constants, lstatSync, openSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import { promisify } from 'node:util';
import type { SubscriptionId } from '@penstock/domain/ids';
import { splitAddress } from './sockets.js';

const LINE_BYTES_MAX = 4096;

export interface AccessLine {
  inboundTag: string;
  address: string;
  port: number;
  subscriptionId: SubscriptionId;
}

/**
 * "2026/11/22 16:33:32.123456 from [tcp:]1.2.3.4:5 accepted tcp:example.com:80 [tag >> direct] email: UUID".
 * Xray lets only letters, digits, dots, dashes and underscores into a destination, so no customer can forge a line.
 */
const LINE =
  /^\d{4}\/\d\d\/\d\d \S+ from (?:tcp:|udp:)?(\S+) accepted \S+ \[([a-z0-9-]+) (?:->|>>|==>) [^\]]*\] email: ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/;

/** Null for whatever is not an accepted connection of a customer. */
export function parseAccessLine(line: string): AccessLine | null {
  const [, source = '', inboundTag = '', id = ''] = LINE.exec(line) ?? [];
  const peer = splitAddress(source);
  if (peer === null) return null;
  return { inboundTag, address: peer.address, port: peer.port, subscriptionId: id as SubscriptionId };
}

/** Makes the FIFO, 0600, unless it is there. */
export async function ensureFifo(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found?.isFIFO() === true) return;
  if (found !== undefined) rmSync(path, { recursive: true });
  await promisify(execFile)('mkfifo', ['-m', '600', path]);
}

/** Reads the FIFO of a running Xray. `onEnd` is called once, when Xray is gone; not after close(). */
export class AccessLog {
  readonly #socket: Socket;
  #rest = '';
  #closed = false;

  constructor(path: string, onLine: (line: AccessLine) => void, onEnd: () => void) {
    const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    this.#socket = new Socket({ fd, readable: true, writable: false });
    this.#socket.on('data', (data: Buffer) => this.#take(data, onLine));
    this.#socket.on('error', () => undefined);
    this.#socket.on('close', () => {
      if (!this.#closed) onEnd();
    });
    this.#socket.unref();
  }

  close(): void {
    this.#closed = true;
    this.#socket.destroy();
  }

  #take(data: Buffer, onLine: (line: AccessLine) => void): void {
    const lines = (this.#rest + data.toString('latin1')).split('\n');
    this.#rest = (lines.pop() ?? '').slice(-LINE_BYTES_MAX);
    for (const text of lines) {
      const line = parseAccessLine(text);
      if (line !== null) onLine(line);
    }
  }
}
