// SQL of the append: heads are locked in one statement ordered by node, then one statement writes frames, slices, heads
// and slice ends of the whole group. Binary arrays in, nothing back.
import type { Client } from '@penstock/db/pool';
import { run, statement } from '@penstock/db/statement';
import { engineNumber, type Engine } from '@penstock/domain/terms';
import { idBytes, newId } from '@penstock/domain/ids';
import type { CheckedFrame } from './accept.js';
import { FixedArray, variableArray } from './binary-array.js';
import type { Crossing, Periods } from './crossing.js';
import type { Stream } from './stream.js';

export interface LockedHead {
  nodeId: string;
  epoch: number;
  seq: bigint;
  fence: bigint;
  frozen: boolean;
}

const lockHeads = statement<LockedHead>(
  'stream_head.lock_group',
  `SELECT node_id AS "nodeId", epoch, seq, fence, frozen_at IS NOT NULL AS frozen
   FROM stream_head WHERE node_id = ANY ($1::uuid[]) ORDER BY node_id FOR UPDATE`,
);

// The payloads are the last parameter: pg's writer copies what it has whenever it must grow.
const append = statement<Record<string, never>>(
  'ledger.append',
  `WITH frame AS (
     INSERT INTO ledger_frame (accepted_on, node_id, epoch, seq, accepted_at, digest, prev_digest, header, signature, flags, traceparent)
     SELECT $1::date, n, e, q, $2::timestamptz, d, p, h, s, f, t
     FROM unnest($3::uuid[], $4::int4[], $5::int8[], $6::bytea[], $7::bytea[], $8::bytea[], $9::bytea[], $10::int2[], $11::text[])
       AS i (n, e, q, d, p, h, s, f, t)
   ), slice AS (
     INSERT INTO ledger_slice (accepted_on, tenant_id, node_id, epoch, seq, opened, rows, digest, prev_digest, payload)
     SELECT $1::date, t, n, e, q, o, r, d, p, b
     FROM unnest($19::uuid[], $20::uuid[], $21::int4[], $22::int8[], $23::int4[], $24::int4[], $25::bytea[], $26::bytea[], $27::bytea[])
       AS i (t, n, e, q, o, r, d, p, b)
   ), head AS (
     UPDATE stream_head AS s SET epoch = i.e, seq = i.q, digest = i.d, accepted_at = $2::timestamptz
     FROM unnest($12::uuid[], $13::int4[], $14::int8[], $15::bytea[]) AS i (n, e, q, d) WHERE s.node_id = i.n
   )
   INSERT INTO slice_head (tenant_id, node_id, digest)
   SELECT t, n, d FROM unnest($16::uuid[], $17::uuid[], $18::bytea[]) AS i (t, n, d)
   ON CONFLICT (tenant_id, node_id) DO UPDATE SET digest = excluded.digest`,
);

const insertMarks = statement<Record<string, never>>(
  'loss_mark.insert',
  `INSERT INTO loss_mark (node_id, epoch, seq, ordinal, kind, engine, from_at, to_at)
   SELECT * FROM unnest($1::uuid[], $2::int4[], $3::int8[], $4::int4[], $5::text[], $6::text[], $7::timestamptz[], $8::timestamptz[])`,
);

const insertQuarantine = statement<Record<string, never>>(
  'usage_quarantine.insert',
  `INSERT INTO usage_quarantine (tenant_id, node_id, epoch, seq, subscription_id, engine, up_bytes, down_bytes, reason, created_at,
     quarantine_id)
   SELECT t, n, e, q, s, g, u, d, r, $10, x FROM unnest($1::uuid[], $2::uuid[], $3::int4[], $4::int8[], $5::uuid[], $6::int2[],
     $7::int8[], $8::int8[], $9::text[], $11::uuid[]) AS i (t, n, e, q, s, g, u, d, r, x)`,
);

const insertCrossings = statement<Record<string, never>>(
  'access_change.insert_crossings',
  `INSERT INTO access_change (tenant_id, change_id, subscription_id, cause, period_id, observed_bytes)
   SELECT t, c, s, CASE WHEN f THEN 'first_use' ELSE 'crossing' END, CASE WHEN NOT f THEN p END, CASE WHEN NOT f THEN o END
   FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::uuid[], $5::int8[], $6::bool[]) AS i (t, c, s, p, o, f)`,
);

export function lockedHeads(client: Client, streams: readonly Stream[]): Promise<LockedHead[]> {
  return run(client, lockHeads, [streams.map((s) => s.nodeId)]);
}

/** Writes the frames. All of them follow their heads; frames of one stream stand in order. */
export async function appendFrames(
  client: Client,
  frames: readonly CheckedFrame[],
  periods: Periods,
  acceptedAtMs: number,
): Promise<void> {
  const acceptedAt = new Date(acceptedAtMs);
  await run(client, append, [
    acceptedAt.toISOString().slice(0, 10),
    acceptedAt,
    ...frameColumns(frames),
    ...headColumns(frames),
    ...sliceEndColumns(frames),
    ...sliceColumns(frames),
  ]);
  await writeMarks(client, frames);
  await writeQuarantine(client, frames, acceptedAt);
  await writeCrossings(
    client,
    periods,
    frames.flatMap((f) => f.crossings),
  );
}

function frameColumns(frames: readonly CheckedFrame[]): unknown[] {
  const n = frames.length;
  const node = new FixedArray('uuid', n);
  const epoch = new FixedArray('int4', n);
  const seq = new FixedArray('int8', n);
  const flags = new FixedArray('int2', n);
  for (const frame of frames) {
    const { header } = frame.view;
    node.uuid(header.nodeId);
    epoch.int4(header.epoch);
    seq.int8(header.seq);
    flags.int2(frame.flags);
  }
  return [
    node.buffer,
    epoch.buffer,
    seq.buffer,
    variableArray(
      'bytea',
      frames.map((f) => f.digest),
    ),
    variableArray(
      'bytea',
      frames.map((f) => f.view.header.prevDigest),
    ),
    variableArray(
      'bytea',
      frames.map((f) => f.view.headerBytes),
    ),
    variableArray(
      'bytea',
      frames.map((f) => f.signature),
    ),
    flags.buffer,
    variableArray(
      'text',
      frames.map((f) => (f.traceparent === null ? null : Buffer.from(f.traceparent))),
    ),
  ];
}

function sliceColumns(frames: readonly CheckedFrame[]): unknown[] {
  const n = frames.reduce((sum, f) => sum + f.view.slices.length, 0);
  const tenant = new FixedArray('uuid', n);
  const node = new FixedArray('uuid', n);
  const epoch = new FixedArray('int4', n);
  const seq = new FixedArray('int8', n);
  const opened = new FixedArray('int4', n);
  const rows = new FixedArray('int4', n);
  for (const { view } of frames) {
    for (const slice of view.slices) {
      tenant.uuid(slice.tenantId);
      node.uuid(view.header.nodeId);
      epoch.int4(view.header.epoch);
      seq.int8(view.header.seq);
      opened.int4(slice.opened);
      rows.int4(slice.rows);
    }
  }
  return [
    tenant.buffer,
    node.buffer,
    epoch.buffer,
    seq.buffer,
    opened.buffer,
    rows.buffer,
    variableArray(
      'bytea',
      frames.flatMap((f) => f.sliceDigests),
    ),
    variableArray(
      'bytea',
      frames.flatMap((f) => f.view.slices.map((s) => s.prevDigest)),
    ),
    variableArray(
      'bytea',
      frames.flatMap((f) => f.view.slices.map((s) => s.payload)),
    ),
  ];
}

function headColumns(frames: readonly CheckedFrame[]): unknown[] {
  const last = new Map<Stream, CheckedFrame>();
  for (const frame of frames) last.set(frame.stream, frame);
  const node = new FixedArray('uuid', last.size);
  const epoch = new FixedArray('int4', last.size);
  const seq = new FixedArray('int8', last.size);
  for (const { view } of last.values()) {
    node.uuid(view.header.nodeId);
    epoch.int4(view.header.epoch);
    seq.int8(view.header.seq);
  }
  return [
    node.buffer,
    epoch.buffer,
    seq.buffer,
    variableArray(
      'bytea',
      [...last.values()].map((f) => f.link),
    ),
  ];
}

function sliceEndColumns(frames: readonly CheckedFrame[]): unknown[] {
  const last = new Map<string, { tenant: Buffer; node: Buffer; digest: Buffer }>();
  for (const frame of frames) {
    const node = frame.view.header.nodeId;
    frame.view.slices.forEach((slice, i) => {
      last.set(slice.tenantId.toString('latin1') + node.toString('latin1'), {
        tenant: slice.tenantId,
        node,
        digest: frame.sliceDigests[i] as Buffer,
      });
    });
  }
  const ends = [...last.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, end]) => end);
  const tenant = new FixedArray('uuid', ends.length);
  const node = new FixedArray('uuid', ends.length);
  for (const end of ends) {
    tenant.uuid(end.tenant);
    node.uuid(end.node);
  }
  return [
    tenant.buffer,
    node.buffer,
    variableArray(
      'bytea',
      ends.map((e) => e.digest),
    ),
  ];
}

const engineNames = new Map<number, Engine>(
  Object.entries(engineNumber).map(([name, number]) => [number, name as Engine]),
);

async function writeMarks(client: Client, frames: readonly CheckedFrame[]): Promise<void> {
  const marks = frames.flatMap((f) =>
    f.view.header.marks.map((mark, ordinal) => ({ ...mark, ordinal, frame: f.view.header })),
  );
  if (marks.length === 0) return;
  await run(client, insertMarks, [
    marks.map((m) => Buffer.from(m.frame.nodeId).toString('hex')),
    marks.map((m) => m.frame.epoch),
    marks.map((m) => m.frame.seq.toString()),
    marks.map((m) => m.ordinal),
    marks.map((m) => m.kind),
    marks.map((m) => engineNames.get(m.engine) ?? null),
    marks.map((m) => new Date(m.fromMs)),
    marks.map((m) => new Date(m.toMs)),
  ]);
}

async function writeQuarantine(client: Client, frames: readonly CheckedFrame[], at: Date): Promise<void> {
  const rows = frames.flatMap((frame) => frame.quarantine.map((row) => ({ ...row, frame })));
  if (rows.length === 0) return;
  await run(client, insertQuarantine, [
    rows.map((r) => r.tenant),
    rows.map((r) => r.frame.stream.nodeId),
    rows.map((r) => r.frame.view.header.epoch),
    rows.map((r) => r.frame.view.header.seq.toString()),
    rows.map((r) => (r.frame.stream.subscriptions.keys[r.subscription] as string).slice(32)),
    rows.map((r) => r.engine),
    rows.map((r) => r.up.toString()),
    rows.map((r) => r.down.toString()),
    rows.map((r) => r.reason),
    at,
    rows.map(() => newId()),
  ]);
}

/** One access_change row a crossing, in key order; the scheduler is notified when the transaction commits. */
export async function writeCrossings(
  client: Client,
  periods: Periods,
  crossings: readonly Crossing[],
): Promise<void> {
  const n = crossings.length;
  if (n === 0) return;
  const sorted = [...crossings].sort((a, b) => periods.compare(a.period, b.period));
  const tenant = new FixedArray('uuid', n);
  const change = new FixedArray('uuid', n);
  const subscription = new FixedArray('uuid', n);
  const period = new FixedArray('uuid', n);
  const observed = new FixedArray('int8', n);
  for (const crossing of sorted) {
    const at = crossing.period * 48;
    tenant.uuid(periods.bytes, at);
    change.uuid(idBytes(newId()));
    subscription.uuid(periods.bytes, at + 16);
    period.uuid(periods.bytes, at + 32);
    observed.int8(crossing.observedBytes);
  }
  await run(client, insertCrossings, [
    tenant.buffer,
    change.buffer,
    subscription.buffer,
    period.buffer,
    observed.buffer,
    sorted.map((crossing) => crossing.cause === 'first_use'),
  ]);
}
