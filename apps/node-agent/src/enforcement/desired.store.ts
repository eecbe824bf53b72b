// The desired state on disk: it holds while the control plane is away and through any crash of the agent. A snapshot
// file and a log of deltas since; each record is checksummed and fsynced before the first step is taken, so that a
// restart in the middle of a cut goes on with the cut and never lets the customer back in. Files 0600: what stands
// here are the credentials of this node alone.
import { open, mkdir, readFile, rename, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { Delta, Snapshot } from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import { idFromBytes, type SubscriptionId } from '@penstock/domain/ids';
import { blake3Digest } from '@penstock/ledger/digest';
import { decodeEntry, type DesiredEntry } from './access-codec.js';

/** The log is folded into a new snapshot above this size. */
const LOG_BYTES_MAX = 4 * 1024 * 1024;
const CHECKSUM_BYTES = 16;
const RECORD_HEAD_BYTES = 4 + CHECKSUM_BYTES;

export interface DesiredState {
  revision: bigint;
  fence: bigint;
  config: Buffer;
  digest: Buffer;
  entries: Map<SubscriptionId, DesiredEntry>;
  /** Removals of the last delta: cut again after a restart, since their proof may not have been given. */
  lastRemovals: SubscriptionId[];
}

function emptyState(): DesiredState {
  return {
    revision: 0n,
    fence: 0n,
    config: Buffer.alloc(0),
    digest: Buffer.alloc(0),
    entries: new Map(),
    lastRemovals: [],
  };
}

export class DesiredStore {
  private log: FileHandle | undefined;
  private logBytes = 0;
  private closed = false;
  state: DesiredState = emptyState();

  private constructor(private readonly dir: string) {}

  /** Opens the state under `dir`; a torn last record is cut off (it was never acknowledged). */
  static async open(dir: string): Promise<DesiredStore> {
    await mkdir(dir, { recursive: true, mode: 0o700 });
    const store = new DesiredStore(dir);
    const snapshot = await readIfThere(join(dir, 'desired.snapshot'));
    if (snapshot !== null) {
      for (const record of records(snapshot)) store.takeSnapshot(Snapshot.decode(record));
    }
    const log = (await readIfThere(join(dir, 'desired.log'))) ?? Buffer.alloc(0);
    let whole = 0;
    for (const record of records(log)) {
      const delta = Delta.decode(record);
      if (delta.base === store.state.revision) store.takeDelta(delta);
      whole += RECORD_HEAD_BYTES + record.length;
    }
    if (snapshot === null || whole < log.length) await store.compact();
    else {
      store.log = await open(join(dir, 'desired.log'), 'a', 0o600);
      store.logBytes = whole;
    }
    return store;
  }

  /** Replaces everything; durable when the promise resolves. */
  async writeSnapshot(snapshot: Snapshot): Promise<void> {
    this.takeSnapshot(snapshot);
    await this.compact();
  }

  /** Appends a delta; durable when the promise resolves. */
  async writeDelta(delta: Delta): Promise<void> {
    const record = frameRecord(Delta.encode(delta).finish());
    if (this.closed) throw new Error('the desired state is closed');
    if (this.log === undefined) await this.compact();
    const log = this.log;
    if (log === undefined) throw new Error('the desired state cannot be written');
    try {
      await log.appendFile(record);
      await log.datasync();
    } catch (error) {
      // Half a record would hide every later one from the next start: the log is given up, the next write folds it.
      this.log = undefined;
      await log.close().catch(() => undefined);
      throw error;
    }
    this.logBytes += record.length;
    this.takeDelta(delta);
    if (this.logBytes > LOG_BYTES_MAX) await this.compact();
  }

  async close(): Promise<void> {
    this.closed = true;
    await this.log?.close();
    this.log = undefined;
  }

  private takeSnapshot(snapshot: Snapshot): void {
    const entries = new Map<SubscriptionId, DesiredEntry>();
    for (const wire of snapshot.entries) {
      const entry = decodeEntry(wire);
      entries.set(entry.access.subscriptionId, entry);
    }
    const removed = [...this.state.entries.keys()].filter((id) => !entries.has(id));
    this.state = {
      revision: snapshot.revision,
      fence: snapshot.fence,
      config: Buffer.from(snapshot.config),
      digest: Buffer.from(snapshot.digest),
      entries,
      lastRemovals: removed,
    };
  }

  private takeDelta(delta: Delta): void {
    const { state } = this;
    for (const wire of delta.upserts) {
      const entry = decodeEntry(wire);
      state.entries.set(entry.access.subscriptionId, entry);
    }
    state.lastRemovals = delta.removals.map((bytes) => idFromBytes<SubscriptionId>(Buffer.from(bytes)));
    for (const id of state.lastRemovals) state.entries.delete(id);
    if (delta.config.length > 0) state.config = Buffer.from(delta.config);
    state.revision = delta.revision;
    state.fence = delta.fence;
    state.digest = Buffer.from(delta.digest);
  }

  /** Writes the state as one snapshot (temporary file, fsync, rename, fsync of the directory) and empties the log. */
  private async compact(): Promise<void> {
    const { state } = this;
    const snapshot = Snapshot.encode({
      revision: state.revision,
      fence: state.fence,
      config: state.config,
      digest: state.digest,
      more: false,
      entries: [...state.entries.values()].map((entry) => ({
        subscriptionId: Buffer.from(entry.access.subscriptionId.replaceAll('-', ''), 'hex'),
        access: entry.bytes,
      })),
    }).finish();
    const path = join(this.dir, 'desired.snapshot');
    const file = await open(`${path}.new`, 'w', 0o600);
    await file.writeFile(frameRecord(snapshot));
    await file.sync();
    await file.close();
    await rename(`${path}.new`, path);
    await this.log?.close();
    // Records in an old log name a base below the snapshot's revision, so a crash before this truncation is harmless.
    this.log = await open(join(this.dir, 'desired.log'), 'w', 0o600);
    this.logBytes = 0;
    const directory = await open(this.dir, 'r');
    await directory.sync();
    await directory.close();
  }
}

/** length u32 ‖ BLAKE3 of the body, first 16 bytes ‖ body */
function frameRecord(body: Uint8Array): Buffer {
  const head = Buffer.alloc(RECORD_HEAD_BYTES);
  head.writeUInt32BE(body.length, 0);
  blake3Digest(body).copy(head, 4, 0, CHECKSUM_BYTES);
  return Buffer.concat([head, body]);
}

function* records(bytes: Buffer): Generator<Buffer> {
  let at = 0;
  while (bytes.length - at >= RECORD_HEAD_BYTES) {
    const length = bytes.readUInt32BE(at);
    const start = at + RECORD_HEAD_BYTES;
    const body = bytes.subarray(start, start + length);
    if (body.length < length) return;
    if (blake3Digest(body).compare(bytes, at + 4, start, 0, CHECKSUM_BYTES) !== 0) return;
    yield body;
    at = start + length;
  }
}

async function readIfThere(path: string): Promise<Buffer | null> {
  try {
    return await readFile(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
