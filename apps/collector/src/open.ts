// Opening a stream in the database: one short transaction. Locks the head, decides the epoch (epochs.ts), raises the
// fence on head and watermarks, so that whoever served the node before can neither append nor flush any more.
import type { Client, Pool } from '@penstock/db/pool';
import { run } from '@penstock/db/statement';
import { withTransaction } from '@penstock/db/transaction';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import type { NodeId } from '@penstock/domain/ids';
import { frameLink } from '@penstock/ledger/chain';
import { decodeHeader, ZERO_DIGEST } from '@penstock/ledger/frame';
import { grantEpoch, needsLedger, type Grant, type Head, type InLedger, type JournalEnd } from './epochs.js';
import {
  findFrame,
  findNode,
  freezeStream,
  insertHead,
  listSliceHeads,
  listTenants,
  lockHead,
  raiseFence,
  raiseMarks,
  takeRelease,
  termsOf,
  type HeadRow,
  type SliceHeadRow,
} from './open.store.js';
import type { Marks, NodeTerms, Position } from './stream.js';

export interface OpenedStream {
  grant: Grant;
  fence: bigint;
  previousFence: bigint;
  previousHolder: string;
  /** The last accepted frame: in a new epoch still the one of the epoch before. */
  head: Position & { digest: Buffer };
  marks: Marks;
  node: NodeTerms;
  /** The epoch has a gap frame, so meters may jump. */
  gap: boolean;
  /** New epoch only. */
  sliceHeads: SliceHeadRow[];
}

/** `end` null: the stream is adopted without its node, in its own epoch. */
export function openInDatabase(
  pool: Pool,
  clock: Clock,
  nodeId: NodeId,
  end: JournalEnd | null,
  holder: string,
): Promise<OpenedStream> {
  return withTransaction(pool, async (client) => {
    const [row] = await run(client, lockHead, [nodeId]);
    const released = end !== null && row !== undefined && (await isReleased(client, nodeId, row));
    const head = row === undefined ? null : { ...row, frozen: row.frozenAt !== null, released };
    const [node] = await run(client, findNode, [nodeId, row?.epoch ?? 1]);
    if (node === undefined) throw new AppError('not_found', 'the node is not registered');
    // A revoked node sends nothing more, but what was accepted of it is still counted.
    if (end !== null && node.state === 'revoked')
      throw new AppError('certificate_revoked', 'the node is revoked');
    const grant: Grant = end === null ? { kind: 'same' } : await decide(client, nodeId, head, end);
    const empty = { epoch: 1, seq: 0n };
    const opened: OpenedStream = {
      grant,
      fence: row?.fence ?? 0n,
      previousFence: row?.fence ?? 0n,
      previousHolder: row?.holder ?? '',
      head: { epoch: row?.epoch ?? 1, seq: row?.seq ?? 0n, digest: row?.digest ?? ZERO_DIGEST },
      marks: { counter: empty, meter: empty, series: empty },
      node: termsOf(node),
      gap: node.gap,
      sliceHeads: [],
    };
    if (grant.kind === 'frozen') {
      if (grant.reason === 'other_digest') {
        await run(client, freezeStream, [nodeId, null, new Date(clock.now()), 'other_digest']);
      }
      return opened;
    }
    opened.fence = await takeOver(client, clock, nodeId, row, grant, holder);
    for (const mark of await run(client, raiseMarks, [nodeId, opened.fence])) {
      opened.marks[mark.kind] = { epoch: mark.epoch, seq: mark.seq };
    }
    if (grant.kind === 'new') opened.sliceHeads = await sliceHeads(client, nodeId);
    return opened;
  });
}

/** True when somebody released this very freeze; the wish is used up. A rollback brings it back. */
async function isReleased(client: Client, nodeId: NodeId, row: HeadRow): Promise<boolean> {
  if (row.frozenAt === null) return false;
  const [wish] = await run(client, takeRelease, [nodeId]);
  return wish?.frozenAt.getTime() === row.frozenAt.getTime();
}

async function decide(client: Client, nodeId: NodeId, head: Head | null, end: JournalEnd): Promise<Grant> {
  let inLedger: InLedger = 'not_asked';
  if (needsLedger(head, end)) {
    const [frame] = end.seq === 0n ? [] : await run(client, findFrame, [nodeId, end.epoch, end.seq]);
    const link =
      frame === undefined ? null : frameLink({ header: decodeHeader(frame.header).header }, frame.digest);
    // A journal that is empty in this epoch contradicts nothing.
    inLedger = end.seq === 0n || link?.equals(end.digest) === true ? 'same' : 'absent';
  }
  return grantEpoch(head, end, inLedger);
}

async function takeOver(
  client: Client,
  clock: Clock,
  nodeId: NodeId,
  row: HeadRow | undefined,
  grant: Grant,
  holder: string,
): Promise<bigint> {
  const epoch = grant.kind === 'new' ? grant.epoch : (row?.epoch ?? 1);
  const [raised] =
    row === undefined
      ? await run(client, insertHead, [nodeId, epoch, ZERO_DIGEST, holder, new Date(clock.now())])
      : await run(client, raiseFence, [nodeId, epoch, holder, grant.kind === 'new']);
  if (raised === undefined)
    throw new AppError('unavailable', 'the stream cannot be opened now', { retryAfterMs: 500 });
  return raised.fence;
}

async function sliceHeads(client: Client, nodeId: NodeId): Promise<SliceHeadRow[]> {
  const tenants = await run(client, listTenants, [nodeId]);
  await client.query({
    name: 'open.tenants',
    text: `SELECT set_config('app.tenant_ids', $1, true)`,
    values: [tenants.map((t) => t.tenantId).join(',')],
  });
  return run(client, listSliceHeads, [nodeId]);
}
