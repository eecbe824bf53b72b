// A directory that loses what was not synced: the journal's file operations over memory, with a power cut, a full disk
// or a failing sync at any operation. Seeded, so that a failure can be run again.
import type { WalFiles } from '../../src/accounting/wal-files.js';

export class PowerCut extends Error {}

export class DiskFull extends Error {
  readonly code = 'ENOSPC';
}

interface Inode {
  synced: Buffer;
  /** Writes since the last sync, in order. */
  writes: { offset: number; bytes: Buffer; truncate: boolean }[];
}

/** mulberry32: small, seeded, good enough to choose crash points. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

function applied(base: Buffer, write: Inode['writes'][number]): Buffer {
  if (write.truncate) return base.subarray(0, write.offset);
  const end = Math.max(base.length, write.offset + write.bytes.length);
  const out = Buffer.alloc(end);
  base.copy(out);
  write.bytes.copy(out, write.offset);
  return out;
}

export class CrashingFiles implements WalFiles {
  #inodes = new Map<string, Inode>();
  /** Names as the disk knows them. */
  #syncedNames = new Map<string, Inode>();
  operations = 0;
  /** Operation at which the power goes; Infinity for never. */
  cutAt = Infinity;
  /** Bytes the disk holds. */
  spaceBytes = Infinity;
  failSyncs = false;
  #dead = false;

  get isOff(): boolean {
    return this.#dead;
  }

  constructor(private readonly random: () => number) {}

  /** The process died, the machine did not: everything written is still there. */
  reopen(): CrashingFiles {
    const next = new CrashingFiles(this.random);
    next.spaceBytes = this.spaceBytes;
    next.#inodes = this.#inodes;
    next.#syncedNames = this.#syncedNames;
    return next;
  }

  /** What is there after the power came back. */
  restart(): CrashingFiles {
    const next = new CrashingFiles(this.random);
    next.spaceBytes = this.spaceBytes;
    const names = new Set([...this.#inodes.keys(), ...this.#syncedNames.keys()]);
    for (const name of names) {
      const live = this.#inodes.get(name);
      const synced = this.#syncedNames.get(name);
      // A name whose making or removal was not synced may or may not be there.
      const inode = live === synced ? live : this.random() < 0.5 ? live : synced;
      if (inode === undefined) continue;
      const bytes = this.#afterCut(inode);
      const copy: Inode = { synced: bytes, writes: [] };
      next.#inodes.set(name, copy);
      next.#syncedNames.set(name, copy);
    }
    return next;
  }

  #afterCut(inode: Inode): Buffer {
    let bytes = inode.synced;
    for (const write of inode.writes) {
      const luck = this.random();
      if (luck < 0.4) continue;
      if (luck < 0.7 && !write.truncate) {
        const kept = Math.floor(this.random() * write.bytes.length);
        bytes = applied(bytes, { ...write, bytes: write.bytes.subarray(0, kept) });
      } else bytes = applied(bytes, write);
    }
    return Buffer.from(bytes);
  }

  /** Changes stored bytes behind the journal's back. */
  corrupt(name: string, change: (bytes: Buffer) => Buffer): void {
    const inode = this.#get(name);
    inode.synced = change(Buffer.from(this.#content(inode)));
    inode.writes = [];
  }

  names(): string[] {
    return [...this.#inodes.keys()].sort();
  }

  content(name: string): Buffer {
    return this.#content(this.#get(name));
  }

  list(): Promise<string[]> {
    return this.#do(() => [...this.#inodes.keys()]);
  }

  read(name: string): Promise<Buffer> {
    return this.#do(() => Buffer.from(this.#content(this.#get(name))));
  }

  readAt(name: string, offset: number, length: number): Promise<Buffer> {
    return this.#do(() => Buffer.from(this.#content(this.#get(name)).subarray(offset, offset + length)));
  }

  create(name: string): Promise<void> {
    return this.#do(() => {
      if (this.#inodes.has(name)) throw new Error('EEXIST');
      this.#inodes.set(name, { synced: Buffer.alloc(0), writes: [] });
    });
  }

  write(name: string, offset: number, bytes: Buffer): Promise<void> {
    return this.#do(() => {
      const left = this.spaceBytes === Infinity ? Infinity : this.spaceBytes - this.#used();
      const kept = left < bytes.length ? bytes.subarray(0, Math.max(0, Math.floor(left))) : bytes;
      this.#get(name).writes.push({ offset, bytes: Buffer.from(kept), truncate: false });
      if (kept.length < bytes.length) throw new DiskFull('no space left on device');
    });
  }

  sync(name: string): Promise<void> {
    return this.#do(() => {
      if (this.failSyncs) throw new Error('EIO');
      const inode = this.#get(name);
      inode.synced = this.#content(inode);
      inode.writes = [];
    });
  }

  syncDirectory(): Promise<void> {
    return this.#do(() => {
      this.#syncedNames = new Map(this.#inodes);
    });
  }

  truncate(name: string, length: number): Promise<void> {
    return this.#do(() => {
      this.#get(name).writes.push({ offset: length, bytes: Buffer.alloc(0), truncate: true });
    });
  }

  remove(name: string): Promise<void> {
    return this.#do(() => {
      this.#inodes.delete(name);
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #used(): number {
    let sum = 0;
    for (const inode of this.#inodes.values()) sum += this.#content(inode).length;
    return sum;
  }

  #get(name: string): Inode {
    const inode = this.#inodes.get(name);
    if (inode === undefined) throw new Error(`ENOENT ${name}`);
    return inode;
  }

  #content(inode: Inode): Buffer {
    return inode.writes.reduce(applied, inode.synced);
  }

  /** The operation at which the power goes may have happened or not. */
  async #do<T>(operation: () => T): Promise<T> {
    await Promise.resolve();
    if (this.#dead) throw new PowerCut('the power is off');
    if (++this.operations >= this.cutAt) {
      this.#dead = true;
      if (this.random() < 0.5) operation();
      throw new PowerCut('the power is off');
    }
    return operation();
  }
}
