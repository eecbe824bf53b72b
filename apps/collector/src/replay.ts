// Reads the ledger above a stream's watermarks into memory: what was appended but not flushed when a collector died, lost
// its stream or could not know whether its COMMIT happened. Frames above the meter watermark restore the meters; those
// above the counter or series watermark are counted there too, unless they were quarantined. Nothing is judged again.
import type { Pool } from '@penstock/db/pool';
import { run } from '@penstock/db/statement';
import { withTransaction } from '@penstock/db/transaction';
import type { Clock } from '@penstock/domain/clock';
import { frameLink } from '@penstock/ledger/chain';
import { decodeHeader, OPENED_BYTES, type FrameView } from '@penstock/ledger/frame';
import { applyFrame, FLAG_IMPLAUSIBLE_CLOCK, settleFrame, type CheckedFrame } from './accept.js';
import type { Periods } from './crossing.js';
import { hexOf, type Loader } from './load.js';
import {
  listQuarantined,
  listSlices,
  pageFrames,
  type LedgerFrameRow,
  type LedgerSliceRow,
} from './load.store.js';
import { multiplierAt } from './multiplier.js';
import { anyMissing, checkRows, newMissing, type Known, type RowColumns } from './rows.js';
import { after, type Stream } from './stream.js';

const PAGE_FRAMES = 256;
/** Meters, then periods: more rounds mean that the database answers at random. */
const LOAD_ROUNDS_MAX = 4;

/** Brings the stream from its meter watermark to its head. */
export async function replay(
  pool: Pool,
  loader: Loader,
  periods: Periods,
  clock: Clock,
  stream: Stream,
  tenantIds: readonly string[],
): Promise<number> {
  const head = stream.kept;
  let at = stream.meterMark;
  let count = 0;
  while (after(head, at)) {
    const range = [stream.nodeId, at.epoch, at.seq, head.epoch, head.seq];
    const frames = await run(pool, pageFrames, [...range, PAGE_FRAMES]);
    const last = frames.at(-1);
    if (last === undefined) break;
    const page = [stream.nodeId, at.epoch, at.seq, last.epoch, last.seq];
    const { slices, quarantined } = await withTransaction(
      pool,
      async (client) => ({
        slices: await run(client, listSlices, page),
        quarantined: await run(client, listQuarantined, page),
      }),
      { tenantIds },
    );
    const slicesOf = Map.groupBy(slices, (s) => `${s.epoch}/${s.seq}`);
    const unbilledOf = Map.groupBy(quarantined, (q) => `${q.epoch}/${q.seq}`);
    for (const frame of frames) {
      const name = `${frame.epoch}/${frame.seq}`;
      const unbilled = new Set(
        (unbilledOf.get(name) ?? []).map((q) => `${hexOf(q.tenantId)}${hexOf(q.subscriptionId)}/${q.engine}`),
      );
      await replayFrame(loader, periods, clock, stream, frame, slicesOf.get(name) ?? [], unbilled);
      count++;
    }
    at = { epoch: last.epoch, seq: last.seq };
  }
  stream.kept = head;
  stream.epoch = head.epoch;
  stream.seq = head.seq;
  return count;
}

async function replayFrame(
  loader: Loader,
  periods: Periods,
  clock: Clock,
  stream: Stream,
  row: LedgerFrameRow,
  slices: readonly LedgerSliceRow[],
  unbilled: ReadonlySet<string>,
): Promise<void> {
  const view = viewOf(row, slices);
  const implausible = (row.flags & FLAG_IMPLAUSIBLE_CLOCK) !== 0;
  const windowEndMs = view.header.windowStartMs + view.header.windowMs;
  const billAtMs = implausible ? row.acceptedAt.getTime() : windowEndMs;
  const rows = await resolve(loader, periods, clock, stream, view, billAtMs);
  const frame: CheckedFrame = {
    bytes: 0,
    view,
    digest: row.digest,
    sliceDigests: slices.map((s) => s.digest),
    signature: Buffer.alloc(0),
    traceparent: null,
    signed: true,
    stream,
    link: frameLink(view, row.digest),
    flags: row.flags,
    rows,
    quarantine: [],
    multiplierPerMille: multiplierAt(stream.node.multipliers, billAtMs),
    windowEndMs: implausible ? Number.NaN : windowEndMs,
    ceilingEndMs: billAtMs,
    crossings: [],
  };
  const place = { epoch: row.epoch, seq: row.seq };
  const due = { counters: after(place, stream.counterMark), series: after(place, stream.seriesMark) };
  leaveOut(frame, unbilled);
  applyFrame(frame, due.counters ? periods : null);
  // The flush reports what the dead collector's memory may or may not have reported.
  for (const crossing of frame.crossings) periods.unreport(crossing);
  settleFrame(frame, due);
}

async function resolve(
  loader: Loader,
  periods: Periods,
  clock: Clock,
  stream: Stream,
  view: FrameView,
  billAtMs: number,
): Promise<RowColumns> {
  let known: Known = { absentMeters: new Set(), absentTenants: new Set() };
  for (let round = 0; round < LOAD_ROUNDS_MAX; round++) {
    const missing = newMissing();
    const context = {
      stream,
      periods,
      known,
      billAtMs,
      windowStartMs: billAtMs,
      nowMs: clock.now(),
      trusted: true,
      missing,
    };
    for (const slice of view.slices)
      if (!stream.sliceEnds.has(slice.tenantId.toString('hex')))
        missing.tenants.add(slice.tenantId.toString('hex'));
    const rows = checkRows(view, context);
    if (!anyMissing(missing)) return rows;
    const found = await loader.load(stream, missing);
    known = {
      absentMeters: new Set([...known.absentMeters, ...found.absentMeters]),
      absentTenants: found.absentTenants,
    };
  }
  throw new Error('the ledger cannot be replayed: what it names keeps missing');
}

/** Takes the rows of `unbilled` out of billing. */
function leaveOut(frame: CheckedFrame, unbilled: ReadonlySet<string>): void {
  const { rows, stream } = frame;
  if (unbilled.size === 0) return;
  let row = 0;
  for (const slice of frame.view.slices) {
    for (let i = 0; i < slice.rows; i++, row++) {
      const engine = slice.payload.readUInt8(slice.opened * OPENED_BYTES + slice.rows * 16 + i);
      const key = stream.subscriptions.keys[rows.subscription[row] as number] as string;
      if (unbilled.has(`${key}/${engine}`)) rows.period[row] = -1;
    }
  }
}

function viewOf(row: LedgerFrameRow, slices: readonly LedgerSliceRow[]): FrameView {
  const { header } = decodeHeader(row.header);
  return {
    header,
    headerBytes: row.header,
    slices: slices.map((s) => ({
      tenantId: Buffer.from(hexOf(s.tenantId), 'hex'),
      opened: s.opened,
      rows: s.rows,
      prevDigest: s.prevDigest,
      payload: s.payload,
    })),
  };
}
