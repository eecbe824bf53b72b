// The journal's directory: the few file operations the journal is built on, on the real file system or in memory
// (buffer mode `amnesia`). A write counts only after `sync`; a new file's name only after `syncDirectory`.
import { constants } from 'node:fs';
import { chmod, lstat, mkdir, open, readdir, readFile, unlink, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { AppError } from '@penstock/domain/errors';

export interface WalFiles {
  list(): Promise<string[]>;
  read(name: string): Promise<Buffer>;
  readAt(name: string, offset: number, length: number): Promise<Buffer>;
  /** Makes an empty file; fails when it exists. */
  create(name: string): Promise<void>;
  /** Writes all bytes at `offset` or fails. */
  write(name: string, offset: number, bytes: Buffer): Promise<void>;
  sync(name: string): Promise<void>;
  syncDirectory(): Promise<void>;
  truncate(name: string, length: number): Promise<void>;
  remove(name: string): Promise<void>;
  close(): Promise<void>;
}

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

function unusable(directory: string, why: string, cause?: unknown): AppError {
  return new AppError('failed_precondition', `ERR_WAL_DIR_UNUSABLE: ${directory} ${why}`, { cause });
}

/**
 * Opens (or makes, 0700) the journal's directory on disk. Throws failed_precondition, its message starting with
 * ERR_WAL_DIR_UNUSABLE, when it is not a directory, not ours, open to others, not writable or cannot be synced.
 */
export async function openDiskFiles(directory: string): Promise<WalFiles> {
  try {
    await makeDirectory(directory);
  } catch (error) {
    throw unusable(directory, 'cannot be made. Give AGENT_DIR a place the agent may write to.', error);
  }
  const stat = await lstat(directory);
  if (!stat.isDirectory()) throw unusable(directory, 'is not a directory.');
  const uid = process.getuid?.();
  if (uid !== undefined && stat.uid !== uid) {
    throw unusable(
      directory,
      `belongs to uid ${String(stat.uid)}, but the agent runs as uid ${String(uid)}.`,
    );
  }
  if ((stat.mode & 0o077) !== 0) {
    throw unusable(
      directory,
      `may be read by others (mode ${(stat.mode & 0o777).toString(8)}). Run: chmod 700.`,
    );
  }
  const files = new DiskFiles(directory);
  try {
    await probe(files);
  } catch (error) {
    await files.close();
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
    throw unusable(directory, `cannot be written and synced (${code}).`, error);
  }
  return files;
}

/** With parents. Node's own recursive mkdir never returns where a parent exists that nothing can be made in (/proc). */
async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, DIRECTORY_MODE);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT' || dirname(path) === path) throw error;
    await makeDirectory(dirname(path));
    await mkdir(path, DIRECTORY_MODE);
  }
}

async function probe(files: WalFiles): Promise<void> {
  const name = 'probe';
  await files.remove(name);
  await files.create(name);
  await files.write(name, 0, Buffer.of(1));
  await files.sync(name);
  await files.syncDirectory();
  await files.remove(name);
}

class DiskFiles implements WalFiles {
  /** Also those that are being opened, so that none is forgotten: Node ends a process that drops an open handle. */
  readonly #handles = new Map<string, Promise<FileHandle>>();
  #closed = false;

  constructor(private readonly directory: string) {}

  async list(): Promise<string[]> {
    return readdir(this.directory);
  }

  async read(name: string): Promise<Buffer> {
    return readFile(join(this.directory, name));
  }

  async readAt(name: string, offset: number, length: number): Promise<Buffer> {
    const handle = await this.#handle(name);
    const out = Buffer.alloc(length);
    let at = 0;
    while (at < length) {
      const { bytesRead } = await handle.read(out, at, length - at, offset + at);
      if (bytesRead === 0) break;
      at += bytesRead;
    }
    return out.subarray(0, at);
  }

  async create(name: string): Promise<void> {
    await this.#open(name, 'wx+');
    await chmod(join(this.directory, name), FILE_MODE);
  }

  async write(name: string, offset: number, bytes: Buffer): Promise<void> {
    const handle = await this.#handle(name);
    let at = 0;
    while (at < bytes.length) {
      const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, offset + at);
      at += bytesWritten;
    }
  }

  async sync(name: string): Promise<void> {
    await (await this.#handle(name)).datasync();
  }

  async syncDirectory(): Promise<void> {
    const handle = await open(this.directory, constants.O_RDONLY);
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  }

  async truncate(name: string, length: number): Promise<void> {
    await (await this.#handle(name)).truncate(length);
  }

  async remove(name: string): Promise<void> {
    await this.#release(name);
    try {
      await unlink(join(this.directory, name));
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOENT')) throw error;
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#handles.keys()].map((name) => this.#release(name)));
  }

  async #release(name: string): Promise<void> {
    const handle = this.#handles.get(name);
    this.#handles.delete(name);
    await handle?.then(
      (opened) => opened.close(),
      () => undefined,
    );
  }

  #handle(name: string): Promise<FileHandle> {
    return this.#handles.get(name) ?? this.#open(name, 'r+');
  }

  #open(name: string, flags: string): Promise<FileHandle> {
    if (this.#closed) throw new AppError('unavailable', 'the journal is closed');
    const handle = open(join(this.directory, name), flags, FILE_MODE);
    this.#handles.set(name, handle);
    handle.catch(() => {
      if (this.#handles.get(name) === handle) this.#handles.delete(name);
    });
    return handle;
  }
}

/** Buffer mode `amnesia`: nothing touches the disk, everything goes with the process. */
export function openMemoryFiles(): WalFiles {
  const files = new Map<string, Buffer>();
  const get = (name: string): Buffer => {
    const bytes = files.get(name);
    if (bytes === undefined) throw new AppError('internal', `no such journal file: ${name}`);
    return bytes;
  };
  const done = Promise.resolve();
  return {
    list: () => Promise.resolve([...files.keys()]),
    read: (name) => Promise.resolve(get(name)),
    readAt: (name, offset, length) => Promise.resolve(get(name).subarray(offset, offset + length)),
    create: (name) => {
      files.set(name, Buffer.alloc(0));
      return done;
    },
    write: (name, offset, bytes) => {
      files.set(name, Buffer.concat([get(name).subarray(0, offset), bytes]));
      return done;
    },
    sync: () => done,
    syncDirectory: () => done,
    truncate: (name, length) => {
      files.set(name, get(name).subarray(0, length));
      return done;
    },
    remove: (name) => {
      files.delete(name);
      return done;
    },
    close: () => done,
  };
}
