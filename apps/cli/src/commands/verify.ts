// Verification and export of the ledger. Neither asks the product: verify walks the hash chain in the database, or in
// an export on a machine that has no database at all, and names the first slice that is wrong.
import { createWriteStream, readFileSync } from 'node:fs';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Command } from 'commander';
import { createPool, type Pool } from '@penstock/db/pool';
import { AppError } from '@penstock/domain/errors';
import { idFromBytes, parseId } from '@penstock/domain/ids';
import { decodeHeader } from '@penstock/ledger/frame';
import { frameLink } from '@penstock/ledger/chain';
import { verifyFrames, type StoredFrame, type StreamReport } from '@penstock/ledger/verify';
import { CertificateBook } from '../certificates.js';
import { databaseUrl } from '../database-url.js';
import { encodeRecord, MAGIC, readExport } from '../export-file.js';
import { findCertificates, findHeads, storedFrames } from '../ledger.store.js';
import type { Context } from '../context.js';
import { humanBytes, type Output } from '../output.js';

interface Source {
  book: CertificateBook;
  heads: Map<string, { epoch: number; seq: bigint; digest: Buffer }>;
  frames: AsyncIterable<StoredFrame>;
}

export function verifyCommand(program: Command, context: Context): void {
  program
    .command('verify')
    .description('walk the ledger: links, digests, signatures, sums; names the first wrong slice')
    .option('--export <file>', 'verify an export instead of the database; needs no database')
    .option('--root <fingerprint>', 'SHA-256 of the trust root that must have signed the nodes’ certificates')
    .action(async (options: { export?: string; root?: string }) => {
      const out = context.output();
      const pool = options.export === undefined ? openLedger(context) : undefined;
      try {
        const source =
          pool === undefined
            ? await fromExport(options.export ?? '')
            : await fromDatabase(pool, context.dataDirectory());
        if (
          options.root !== undefined &&
          !source.book.rootFingerprints.includes(options.root.toLowerCase())
        ) {
          throw new AppError('certificate_invalid', 'the trust root is not the one that was named', {
            field: 'root',
          });
        }
        const reports = await verify(source);
        tell(out, reports, source.book.rootFingerprints);
        if (reports.some((report) => report.problem !== null)) process.exitCode = 1;
      } finally {
        await pool?.end();
      }
    });

  program
    .command('export')
    .description('write the ledger to a file that verifies without the database')
    .requiredOption('--out <file>')
    .option('--tenant <id>', 'only this tenant’s slices; of all others the digests alone')
    .action(async (options: { out: string; tenant?: string }) => {
      const tenant =
        options.tenant === undefined ? null : parseId(options.tenant, 'tenant').replaceAll('-', '');
      const pool = openLedger(context);
      const file = createWriteStream(options.out, { mode: 0o600 });
      const put = async (bytes: Buffer): Promise<void> => {
        if (!file.write(bytes)) await once(file, 'drain');
      };
      let frames = 0;
      try {
        await put(MAGIC);
        await put(encodeRecord({ type: 'trust', pem: trustBundle(context.dataDirectory()) }));
        for (const row of await findCertificates(pool)) {
          await put(
            encodeRecord({
              type: 'certificate',
              der: row.der,
              revokedAtMs: row.revokedAt?.getTime() ?? null,
            }),
          );
        }
        // Heads first: frames that arrive while we read lie behind them and are no mistake.
        for (const { nodeId, ...head } of await findHeads(pool)) {
          await put(
            encodeRecord({ type: 'head', nodeId: Buffer.from(nodeId.replaceAll('-', ''), 'hex'), ...head }),
          );
        }
        for await (const frame of storedFrames(pool)) {
          frames += 1;
          await put(encodeRecord({ type: 'frame', frame: tenant === null ? frame : onlyOf(frame, tenant) }));
        }
      } finally {
        file.end();
        await once(file, 'finish');
        await pool.end();
      }
      const out = context.output();
      out.write(
        out.json
          ? JSON.stringify({ file: options.out, frames }) + '\n'
          : `${frames} frames written to ${options.out}\n`,
      );
    });
}

function onlyOf(frame: StoredFrame, tenantHex: string): StoredFrame {
  return {
    ...frame,
    slices: frame.slices.map((slice) =>
      'tenantId' in slice && slice.tenantId.toString('hex') === tenantHex ? slice : { digest: slice.digest },
    ),
  };
}

function openLedger(context: Context): Pool {
  return createPool(databaseUrl(context.dataDirectory(), 'reader'), {
    applicationName: 'penstock-cli',
    max: 2,
    statementTimeoutMs: 120_000,
  });
}

function trustBundle(directory: string): string {
  return readFileSync(join(directory, 'trust', 'cli', 'root.pem'), 'utf8');
}

async function fromDatabase(pool: Pool, directory: string): Promise<Source> {
  const book = new CertificateBook(trustBundle(directory));
  for (const row of await findCertificates(pool))
    book.add({ der: row.der, revokedAtMs: row.revokedAt?.getTime() ?? null });
  const heads = new Map((await findHeads(pool)).map(({ nodeId, ...head }) => [nodeId, head]));
  return { book, heads, frames: storedFrames(pool) };
}

/** Everything but the frames stands before them in an export. */
async function fromExport(path: string): Promise<Source> {
  const records = readExport(path);
  const heads: Source['heads'] = new Map();
  let book: CertificateBook | undefined;
  let first: StoredFrame | undefined;
  for (let next = await records.next(); next.done !== true; next = await records.next()) {
    const record = next.value;
    if (record.type === 'trust') book = new CertificateBook(record.pem);
    else if (record.type === 'certificate') book?.add(record);
    else if (record.type === 'head') heads.set(idFromBytes(record.nodeId), record);
    else {
      first = record.frame;
      break;
    }
  }
  if (book === undefined)
    throw new AppError('invalid_input', 'the export names no trust root', { field: 'export' });
  const frames = async function* (): AsyncGenerator<StoredFrame> {
    if (first !== undefined) yield first;
    for await (const record of records) if (record.type === 'frame') yield record.frame;
  };
  return { book, heads, frames: frames() };
}

/** Reports of all streams; a stream whose end is missing has a problem too. */
async function verify(source: Source): Promise<StreamReport[]> {
  const reached = new Map<string, Map<string, Buffer>>();
  const watched = async function* (): AsyncGenerator<StoredFrame> {
    for await (const frame of source.frames) {
      try {
        const { header } = decodeHeader(frame.header);
        const nodeId = idFromBytes(header.nodeId);
        const links = reached.get(nodeId) ?? new Map<string, Buffer>();
        // Only the stretch around the head matters; one entry a node would miss frames that came meanwhile.
        const head = source.heads.get(nodeId);
        if (head?.epoch === header.epoch && head.seq === header.seq) {
          links.set(`${header.epoch}/${header.seq}`, frameLink({ header }, frame.digest));
        }
        reached.set(nodeId, links);
      } catch {
        // The verifier names a header that cannot be read.
      }
      yield frame;
    }
  };
  const reports = await verifyFrames(watched(), {
    publicKey: (serial, nodeId, closedAtMs) => source.book.publicKey(serial, nodeId, closedAtMs),
  });
  for (const [nodeId, head] of source.heads) {
    const link = reached.get(nodeId)?.get(`${head.epoch}/${head.seq}`);
    if (link !== undefined && link.equals(head.digest)) continue;
    const report = reports.find((candidate) => candidate.nodeId === nodeId) ?? emptyReport(nodeId, reports);
    report.problem ??= {
      nodeId,
      epoch: head.epoch,
      seq: head.seq,
      tenantId: null,
      reason: 'numbering_broken',
      detail: 'the end of the stream is missing or is not the one that was acknowledged',
    };
  }
  return reports;
}

function emptyReport(nodeId: string, reports: StreamReport[]): StreamReport {
  const report: StreamReport = {
    nodeId,
    frames: 0,
    slices: 0,
    rows: 0,
    upBytes: 0n,
    downBytes: 0n,
    healedUpBytes: 0n,
    healedDownBytes: 0n,
    gaps: [],
    marks: [],
    problem: null,
  };
  reports.push(report);
  return report;
}

function tell(out: Output, reports: readonly StreamReport[], roots: readonly string[]): void {
  if (out.json) {
    const plain = JSON.stringify({ roots, streams: reports }, (_key, value: unknown) =>
      typeof value === 'bigint' ? value.toString() : value,
    );
    return out.write(`${plain}\n`);
  }
  for (const report of reports) {
    out.write(
      `node ${report.nodeId}: ${report.frames} frames, ${report.slices} slices, ${report.rows} rows, ` +
        `up ${humanBytes(report.upBytes)}, down ${humanBytes(report.downBytes)}\n`,
    );
    for (const gap of report.gaps)
      out.write(`  gap at ${gap.epoch}/${gap.seq}: its bytes came back as healed rows\n`);
    for (const mark of report.marks) {
      out.write(
        `  ${mark.kind}: ${new Date(mark.fromMs).toISOString()} to ${new Date(mark.toMs).toISOString()}\n`,
      );
    }
    const { problem } = report;
    if (problem !== null) {
      const tenant = problem.tenantId === null ? '' : `, slice of tenant ${problem.tenantId}`;
      out.write(
        `  WRONG at epoch ${problem.epoch} seq ${problem.seq}${tenant}: ${problem.detail} (${problem.reason})\n`,
      );
    }
  }
  const wrong = reports.filter((report) => report.problem !== null).length;
  out.write(`trust root ${roots.join(', ')}\n`);
  if (reports.length === 0) return out.write('nothing to verify: no node has delivered usage yet\n');
  out.write(
    wrong === 0
      ? `${reports.length} streams verified\n`
      : `${wrong} of ${reports.length} streams are wrong\n`,
  );
}
