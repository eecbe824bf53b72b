// One window's rows → one signed frame. Pure: the frame counts only when the journal has it.
import { frameDigest, signDigest, sliceDigest } from '@penstock/ledger/digest';
import {
  encodeFrame,
  encodeHeader,
  encodePayload,
  MARKS_MAX,
  WINDOW_MS_MAX,
  ZERO_DIGEST,
  type OpenedMeter,
  type SampleRow,
  type SliceView,
} from '@penstock/ledger/frame';
import type { JournalState } from './journal-state.js';
import type { PendingRow } from './meters.js';
import type { SealedFrame } from './record-body.js';
import type { SigningIdentity } from './wal.js';

/** 100,000 rows with as many opened meters are 11.4 MB: below the largest frame. */
export const FRAME_ROWS_MAX = 100_000;

export interface Window {
  startMs: number;
  lengthMs: number;
}

interface TenantPart {
  tenantId: Buffer;
  opened: OpenedMeter[];
  rows: SampleRow[];
}

/** Builds and signs the next frame of `state`: `rows` as slices in tenant order, and its pending marks. */
export function sealFrame(
  state: JournalState,
  identity: SigningIdentity,
  window: Window,
  rows: readonly PendingRow[],
): SealedFrame {
  const slices = partsByTenant(rows).map((part): SliceView => {
    const prevDigest = state.sliceHeads.get(part.tenantId.toString('hex')) ?? ZERO_DIGEST;
    const payload = encodePayload(part.opened, part.rows);
    return {
      tenantId: part.tenantId,
      opened: part.opened.length,
      rows: part.rows.length,
      prevDigest,
      payload,
    };
  });
  const headerBytes = encodeHeader(
    {
      kind: 'data',
      nodeId: identity.nodeId,
      epoch: state.epoch,
      seq: state.nextSeq,
      windowStartMs: Math.max(0, Math.round(window.startMs)),
      windowMs: Math.min(Math.max(0, Math.round(window.lengthMs)), WINDOW_MS_MAX),
      prevDigest: state.link,
      certificateSerial: identity.certificateSerial,
      marks: state.marks.slice(0, MARKS_MAX),
      lostDigest: null,
    },
    slices.length,
  );
  const sliceDigests = slices.map((slice) => sliceDigest(headerBytes, slice));
  const digest = frameDigest(state.link, headerBytes, sliceDigests);
  return { frameBytes: encodeFrame(headerBytes, slices), signature: signDigest(digest, identity.privateKey) };
}

function partsByTenant(rows: readonly PendingRow[]): TenantPart[] {
  const parts = new Map<string, TenantPart>();
  for (const { meter, row, opened } of rows) {
    const { tenant } = meter;
    if (tenant === null) continue;
    const key = tenant.toString('hex');
    let part = parts.get(key);
    if (part === undefined) parts.set(key, (part = { tenantId: tenant, opened: [], rows: [] }));
    if (opened !== null) part.opened.push(opened);
    part.rows.push(row);
  }
  return [...parts.values()].sort((a, b) => a.tenantId.compare(b.tenantId));
}
