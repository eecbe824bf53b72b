// Reads the ledger for verification and export, page by page in order of node, epoch and seq. As the reader role,
// which sees figures of all tenants and no secret.
import { statement, run, type Runner } from '@penstock/db/statement';
import type { StoredFrame } from '@penstock/ledger/verify';

const FRAMES_A_PAGE = 500;

interface FrameRow {
  nodeId: string;
  epoch: number;
  seq: bigint;
  header: Buffer;
  signature: Buffer;
  digest: Buffer;
  acceptedAt: Date;
  flags: number;
}

interface SliceRow {
  epoch: number;
  seq: bigint;
  tenantId: string;
  opened: number;
  rows: number;
  prevDigest: Buffer;
  digest: Buffer;
  payload: Buffer;
}

export interface CertificateRow {
  serial: Buffer;
  nodeId: string;
  der: Buffer;
  notBefore: Date;
  notAfter: Date;
  revokedAt: Date | null;
}

export interface HeadRow {
  nodeId: string;
  epoch: number;
  seq: bigint;
  digest: Buffer;
}

const listFrames = statement<FrameRow>(
  'cli.listFrames',
  `SELECT node_id AS "nodeId", epoch, seq, header, signature, digest, accepted_at AS "acceptedAt",
          flags FROM ledger_frame
   WHERE (node_id, epoch, seq) > ($1::uuid, $2::integer, $3::bigint)
   ORDER BY node_id, epoch, seq LIMIT ${FRAMES_A_PAGE}`,
);

const listSlices = statement<SliceRow>(
  'cli.listSlices',
  `SELECT epoch, seq, tenant_id AS "tenantId", opened, rows, prev_digest AS "prevDigest", digest, payload
   FROM ledger_slice
   WHERE node_id = $1 AND (epoch, seq) BETWEEN ($2::integer, $3::bigint) AND ($4::integer, $5::bigint)
   ORDER BY epoch, seq, tenant_id`,
);

const listCertificates = statement<CertificateRow>(
  'cli.listCertificates',
  `SELECT serial, node_id AS "nodeId", der, not_before AS "notBefore", not_after AS "notAfter", revoked_at AS "revokedAt"
   FROM certificate ORDER BY serial`,
);

const listHeads = statement<HeadRow>(
  'cli.listHeads',
  `SELECT node_id AS "nodeId", epoch, seq, digest FROM stream_head WHERE seq > 0 ORDER BY node_id`,
);

export const findCertificates = (runner: Runner): Promise<CertificateRow[]> => run(runner, listCertificates);
export const findHeads = (runner: Runner): Promise<HeadRow[]> => run(runner, listHeads);

/** All frames with their slices. Slices come in one query a node and page. */
export async function* storedFrames(runner: Runner): AsyncGenerator<StoredFrame> {
  let after: [string, number, bigint] = ['00000000-0000-0000-0000-000000000000', 0, 0n];
  for (;;) {
    const page = await run(runner, listFrames, after);
    const last = page.at(-1);
    if (last === undefined) return;
    for (const [nodeId, frames] of Map.groupBy(page, (frame) => frame.nodeId)) {
      const first = frames[0] as FrameRow;
      const end = frames.at(-1) as FrameRow;
      const slices = await run(runner, listSlices, [nodeId, first.epoch, first.seq, end.epoch, end.seq]);
      const bySeq = Map.groupBy(slices, (slice) => `${slice.epoch}/${slice.seq}`);
      for (const frame of frames) {
        yield {
          header: frame.header,
          signature: frame.signature,
          digest: frame.digest,
          accepted: { atMs: frame.acceptedAt.getTime(), flags: frame.flags },
          slices: (bySeq.get(`${frame.epoch}/${frame.seq}`) ?? []).map(({ tenantId, ...slice }) => ({
            ...slice,
            tenantId: Buffer.from(tenantId.replaceAll('-', ''), 'hex'),
          })),
        };
      }
    }
    after = [last.nodeId, last.epoch, last.seq];
  }
}
