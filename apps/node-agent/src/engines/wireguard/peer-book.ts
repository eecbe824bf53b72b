// Who each peer is and which life its counter lives: public key → (subscription, device, nonce of this add), in one
// 0600 file. Invariant: the entry of a peer is on disk before the peer exists in the engine, and an entry is made
// only for a peer that does not exist there. So, wherever the agent dies, a living counter never gets the boot of
// another life: at worst an entry is on disk for a peer that was never added, and the next add draws a new nonce.
import { createHash, randomBytes } from 'node:crypto';
import { open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import type { DeviceId, SubscriptionId, TenantId } from '@penstock/domain/ids';
import { PEERS_MAX } from './uapi.js';

export interface PeerOwner {
  tenantId: TenantId;
  subscriptionId: SubscriptionId;
  deviceId: DeviceId;
}

export interface PeerEntry extends PeerOwner {
  nonce: string;
  /** First 16 bytes of SHA-256(life of the interface ‖ public key ‖ nonce), hex. */
  boot: string;
}

const NONCE_BYTES = 16;
const hex = (bytes: number) => z.string().regex(new RegExp(`^[0-9a-f]{${bytes * 2}}$`));
const fileSchema = z.strictObject({
  version: z.literal(1),
  life: z.string().max(200),
  peers: z.array(z.tuple([hex(32), hex(NONCE_BYTES), z.uuid(), z.uuid(), z.uuid()])).max(PEERS_MAX),
});

export class PeerBook {
  #life = '';
  #entries = new Map<string, PeerEntry>();

  constructor(private readonly file: string) {}

  get(publicKey: string): PeerEntry | undefined {
    return this.#entries.get(publicKey);
  }

  entries(): IterableIterator<[publicKey: string, entry: PeerEntry]> {
    return this.#entries.entries();
  }

  /**
   * Reads the file for this life of the interface. Entries of another life, or a file that is missing or damaged,
   * leave an empty book: peers without entry are removed and added anew by the engine, never guessed.
   * Returns what was wrong with the file, empty when nothing.
   */
  async load(life: string): Promise<string> {
    this.#life = life;
    this.#entries.clear();
    let text: string;
    try {
      text = await readFile(this.file, 'utf8');
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return '';
      throw error;
    }
    const parsed = fileSchema.safeParse(parseJson(text));
    if (!parsed.success) return 'the peer file is damaged';
    if (parsed.data.life !== life) return '';
    for (const [publicKey, nonce, tenantId, subscriptionId, deviceId] of parsed.data.peers) {
      this.#enter(publicKey, nonce, {
        tenantId: tenantId as TenantId,
        subscriptionId: subscriptionId as SubscriptionId,
        deviceId: deviceId as DeviceId,
      });
    }
    return '';
  }

  /**
   * Draws a nonce for each new peer and makes the entries durable; when it resolves the peers may be added. None of
   * them may exist in the engine now. `living` are the peers that do: entries of others are dropped from the file.
   */
  async open(peers: Map<string, PeerOwner>, living: ReadonlyMap<string, unknown>): Promise<void> {
    for (const publicKey of this.#entries.keys()) {
      if (!living.has(publicKey)) this.#entries.delete(publicKey);
    }
    const random = randomBytes(NONCE_BYTES * peers.size).toString('hex');
    let at = 0;
    for (const [publicKey, owner] of peers) {
      this.#enter(publicKey, random.slice(at, at + NONCE_BYTES * 2), owner);
      at += NONCE_BYTES * 2;
    }
    await this.#write();
  }

  /** Forgets a removed peer; on disk its entry may stay, for a peer that is not there it means nothing. */
  close(publicKey: string): void {
    this.#entries.delete(publicKey);
  }

  async removeFile(): Promise<void> {
    this.#entries.clear();
    await rm(this.file, { force: true });
  }

  #enter(publicKey: string, nonce: string, owner: PeerOwner): void {
    const boot = createHash('sha256')
      .update(`${this.#life}\0`)
      .update(Buffer.from(publicKey + nonce, 'hex'))
      .digest('hex')
      .slice(0, 32);
    const { tenantId, subscriptionId, deviceId } = owner;
    this.#entries.set(publicKey, { tenantId, subscriptionId, deviceId, nonce, boot });
  }

  async #write(): Promise<void> {
    const peers = [...this.#entries].map(([key, e]) => [
      key,
      e.nonce,
      e.tenantId,
      e.subscriptionId,
      e.deviceId,
    ]);
    await writeDurably(this.file, JSON.stringify({ version: 1, life: this.#life, peers }));
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Whole file or old file: temporary file (0600), fsync, rename, fsync of the directory. */
export async function writeDurably(file: string, text: string): Promise<void> {
  const temporary = `${file}.tmp`;
  await rm(temporary, { force: true });
  const handle = await open(temporary, 'wx', 0o600);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await rename(temporary, file);
  const folder = await open(dirname(file), 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
