// Keeps what the access log told about open connections for the next agent process, so that an agent killed with -9
// still tells neighbours behind one address apart. One line a connection: "port address port subscription"; no
// destination. Appended as lines come in, written anew when it is mostly about closed connections. Not synced: a
// machine that stops takes Xray and its connections with it.
import { appendFile, readFile, rename, writeFile } from 'node:fs/promises';
import type { SubscriptionId } from '@penstock/domain/ids';
import { isUuid } from './config.js';
import type { SocketOwners } from './socket-owners.js';
import type { SocketRef } from './sockets.js';

/** Rewritten when it holds this many lines more than twice what is open. */
const STALE_LINES_MAX = 4_096;

export class OwnersFile {
  readonly #path: string;
  #pending = '';
  #pendingLines = 0;
  #lines = 0;
  #busy: Promise<void> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  /** Tells `owners` what the file knows; a missing or torn file is no error. */
  async load(owners: SocketOwners): Promise<void> {
    const text = await readFile(this.#path, 'latin1').catch(() => '');
    for (const line of text.split('\n')) {
      const [localPort = '', address = '', port = '', id = ''] = line.split(' ');
      if (isUuid(id))
        owners.learn({ localPort: Number(localPort), address, port: Number(port) }, id as SubscriptionId);
    }
    this.#lines = owners.size;
  }

  add(ref: SocketRef, id: SubscriptionId): void {
    const first = this.#pending === '';
    this.#pending += format(ref, id);
    this.#pendingLines += 1;
    // Lines of one read of the FIFO are written together.
    if (first) queueMicrotask(() => this.#enqueue(() => this.#append()));
  }

  /** Writes the file anew when most of it is about closed connections. */
  compact(owners: SocketOwners): void {
    if (this.#lines < owners.size * 2 + STALE_LINES_MAX) return;
    this.#enqueue(async () => {
      const text = Array.from(owners.entries(), ([ref, id]) => format(ref, id)).join('');
      await writeFile(`${this.#path}.new`, text, { mode: 0o600 });
      await rename(`${this.#path}.new`, this.#path);
      this.#lines = owners.size;
    });
  }

  /** Resolves when everything added so far is written. */
  async settled(): Promise<void> {
    await this.#busy;
  }

  #enqueue(work: () => Promise<void>): void {
    // A full disk costs knowledge after a restart, nothing else.
    this.#busy = this.#busy.then(work).catch(() => undefined);
  }

  async #append(): Promise<void> {
    const text = this.#pending;
    this.#lines += this.#pendingLines;
    this.#pending = '';
    this.#pendingLines = 0;
    if (text !== '') await appendFile(this.#path, text, { mode: 0o600 });
  }
}

function format({ localPort, address, port }: SocketRef, id: SubscriptionId): string {
  return `${localPort} ${address} ${port} ${id}\n`;
}
