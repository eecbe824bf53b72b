// Finds and holds the moments between two steps of the accounting, so that a kill falls where it is meant to: each hold
// is a real lock or a real setting of PostgreSQL, and each landing is proven afterwards from the journal's files and SQL.
//   read → fsync          late in a window: the engines were read since the last record, nothing of it is on disk
//   fsync → send          the journal's directory has just grown; afterwards the journal is ahead of the ledger
//   send → commit         the append waits for a row lock that we hold
//   commit → acknowledge  the commit is on disk, its answer held back (it waits for a standby that does not exist)
//   append → flush        the stream's head is ahead of the counters' watermark
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { createClient } from '@penstock/db/pool';
import { decodeFrame } from '@penstock/ledger/frame';
import { scanSegment } from '../../apps/node-agent/src/accounting/record.js';
import { decodeFrameBody } from '../../apps/node-agent/src/accounting/record-body.js';
import { until } from './until.js';
import type { NodeOfWorld, World } from './world.js';

/** Settings of PostgreSQL without which a commit never waits for a standby. */
export const HOLD_SETTINGS = { wal_level: 'replica', max_wal_senders: '2' } as const;

const SEGMENT = /^segment-([0-9a-f]{16})\.wal$/;

export interface Place {
  epoch: number;
  seq: bigint;
}

/** A number in [0, 1) from a seed: mulberry32. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class Gaps {
  private readonly journal: string;

  constructor(
    private readonly world: World,
    private readonly node: NodeOfWorld,
  ) {
    this.journal = join(node.agentDir, 'journal');
  }

  /** Seq of the newest frame in the journal's files. */
  journalSeq(): bigint {
    let newest = 0n;
    for (const name of readdirSync(this.journal)) {
      const hex = SEGMENT.exec(name)?.[1];
      if (hex === undefined) continue;
      for (const record of scanSegment(BigInt(`0x${hex}`), readFileSync(join(this.journal, name))).records) {
        if (record.type !== 'frame') continue;
        const { seq } = decodeFrame(decodeFrameBody(record.body).frameBytes).header;
        if (seq > newest) newest = seq;
      }
    }
    return newest;
  }

  /** Resolves at the first sight of the next record of the journal. */
  async journalGrows(): Promise<void> {
    const before = this.journalBytes();
    const deadline = performance.now() + 15_000;
    while (this.journalBytes() === before) {
      if (performance.now() > deadline) throw new Error('the journal does not grow');
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async head(): Promise<Place> {
    const { rows } = await this.world.sql.query<Place>(
      'SELECT epoch, seq FROM stream_head WHERE node_id = $1',
      [this.node.nodeId],
    );
    return rows[0] ?? { epoch: 0, seq: 0n };
  }

  async counterMark(): Promise<Place> {
    const { rows } = await this.world.sql.query<Place>(
      `SELECT epoch, seq FROM stream_watermark WHERE node_id = $1 AND kind = 'counter'`,
      [this.node.nodeId],
    );
    return rows[0] ?? { epoch: 0, seq: 0n };
  }

  /** Resolves when a frame is in the ledger that the counters do not have. */
  async appended(): Promise<void> {
    await until(
      async () => (await this.head()).seq > (await this.counterMark()).seq,
      'an append before its flush',
    );
  }

  /** Holds the stream's head and resolves when an append waits for it. The result lets it go. */
  async holdAppend(): Promise<() => Promise<void>> {
    const holder = await this.client();
    await holder.query('BEGIN');
    await holder.query('SELECT 1 FROM stream_head WHERE node_id = $1 FOR UPDATE', [this.node.nodeId]);
    await this.waiting(
      `SELECT 1 FROM pg_stat_activity WHERE application_name = 'penstock-collector' AND wait_event_type = 'Lock'`,
      'an append waits for its lock',
    );
    return async () => {
      await holder.query('ROLLBACK').catch(() => undefined);
      await holder.end().catch(() => undefined);
    };
  }

  /** Holds the answers to commits, which are durable all the same; resolves when an append's commit waits so. */
  async holdCommit(): Promise<void> {
    const setter = await this.client();
    await setter.query(`ALTER SYSTEM SET synchronous_standby_names = 'nobody'`);
    await setter.query('SELECT pg_reload_conf()');
    await setter.end();
    await this.waiting(
      `SELECT 1 FROM pg_stat_activity a JOIN pg_locks l USING (pid)
       WHERE a.application_name = 'penstock-collector' AND a.wait_event = 'SyncRep' AND l.relation = 'slice_head'::regclass`,
      'the commit of an append waits for its answer',
    );
  }

  /** Needed after a kill of PostgreSQL too: the setting stands in its file. */
  async releaseCommits(): Promise<void> {
    const setter = await this.client();
    await setter.query('ALTER SYSTEM RESET synchronous_standby_names');
    await setter.query('SELECT pg_reload_conf()');
    await setter.end();
  }

  /** Resolves when what was on its way to the ledger is there or never will be. */
  async standsStill(): Promise<Place> {
    let [last, same] = [await this.head(), 0];
    await until(async () => {
      const now = await this.head();
      same = now.seq === last.seq ? same + 1 : 0;
      last = now;
      return same >= 5;
    }, 'the ledger stands still');
    return last;
  }

  private async waiting(sql: string, what: string): Promise<void> {
    await until(async () => (await this.world.sql.query(sql)).rows.length > 0, what);
  }

  private async client(): Promise<ReturnType<typeof createClient>> {
    const client = createClient(this.world.stack.superuserUrl(), 'e2e-hold');
    client.on('error', () => undefined);
    await client.connect();
    return client;
  }

  private journalBytes(): number {
    let bytes = 0;
    for (const name of readdirSync(this.journal))
      bytes += statSync(join(this.journal, name), { throwIfNoEntry: false })?.size ?? 0;
    return bytes;
  }
}
