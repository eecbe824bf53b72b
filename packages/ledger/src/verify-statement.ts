// Judges a statement's file without the product: the signature over the header, the digest of the lines, their count and
// sums. Reads the lines as they come, so the size of a file does not matter. Used by `penstock statement verify`.
import { createHash, createPublicKey, verify, type KeyObject } from 'node:crypto';
import {
  STATEMENT_FORMAT,
  type StatementBytes,
  type StatementHeader,
  type StatementSignature,
} from '@penstock/domain/statement';

export interface StatementReport {
  header: StatementHeader;
  /** SHA-256 of the header: what the next statement names. Hex. */
  digest: string;
  /** SHA-256 of the public key (SPKI DER), hex: to be compared with the one that the operator published. */
  keyFingerprint: string;
  /** null: everything holds. Else what does not, in words. */
  problem: string | null;
}

/** Longest line of a file: 2,000 characters hold any header. */
export const STATEMENT_LINE_MAX = 4_096;

type Sums = [bigint, bigint, bigint];

/**
 * `lines` without their line ends. Throws RangeError when it is no statement at all; anything that was changed is the
 * report's problem.
 */
export async function verifyStatement(lines: AsyncIterable<string>): Promise<StatementReport> {
  const iterator = lines[Symbol.asyncIterator]();
  const first = (await iterator.next()).value as string | undefined;
  const second = (await iterator.next()).value as string | undefined;
  const header = read<StatementHeader>(first, 'format');
  if (first === undefined || header.format !== STATEMENT_FORMAT)
    throw new RangeError(`this is not a ${STATEMENT_FORMAT} file`);
  const signature = read<StatementSignature>(second, 'signature');
  const publicKey = Buffer.from(signature.publicKey, 'base64');
  const report: StatementReport = {
    header,
    digest: createHash('sha256').update(first).digest('hex'),
    keyFingerprint: createHash('sha256').update(publicKey).digest('hex'),
    problem: null,
  };
  const key = keyOf(publicKey);
  const signed =
    key !== null && verify(null, Buffer.from(first), key, Buffer.from(signature.signature, 'base64'));
  if (!signed) report.problem = 'the signature does not match the header';
  const found = await sums(iterator, header.month);
  report.problem ??= compare(header, found);
  return report;
}

interface Found {
  lines: number;
  corrections: number;
  digest: string;
  usage: Sums;
  corrected: Sums;
  badLine: number | null;
}

async function sums(iterator: AsyncIterator<string>, month: string): Promise<Found> {
  const hash = createHash('sha256');
  const found: Found = {
    ...{ lines: 0, corrections: 0, digest: '', badLine: null },
    ...{ usage: [0n, 0n, 0n], corrected: [0n, 0n, 0n] },
  };
  for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
    hash.update(`${next.value}\n`);
    found.lines++;
    const line = parsed(next.value);
    if (line === null) {
      found.badLine ??= found.lines;
      continue;
    }
    const into = line.month === month ? found.usage : found.corrected;
    if (line.month !== month) found.corrections++;
    line.bytes.forEach((bytes, i) => (into[i] = (into[i] as bigint) + bytes));
  }
  found.digest = hash.digest('hex');
  return found;
}

function compare(header: StatementHeader, found: Found): string | null {
  const same = (wanted: StatementBytes, sum: Sums): boolean =>
    [wanted.upBytes, wanted.downBytes, wanted.billableBytes].every((text, i) => text === String(sum[i]));
  if (found.lines !== header.lines) return `${header.lines} lines were signed, ${found.lines} are here`;
  if (found.digest !== header.linesDigest) return 'the lines are not those that were signed';
  if (found.badLine !== null) return `line ${found.badLine} cannot be read`;
  if (!same(header.usage, found.usage)) return 'the lines of the month do not add up to its usage';
  if (found.corrections !== header.corrections.lines || !same(header.corrections, found.corrected))
    return 'the lines of earlier months do not add up to the corrections';
  return null;
}

function parsed(text: string): { month: string; bytes: bigint[] } | null {
  try {
    const [month, , , ...bytes] = JSON.parse(text) as string[];
    if (month === undefined || bytes.length !== 3) return null;
    return { month, bytes: bytes.map(BigInt) };
  } catch {
    return null;
  }
}

function read<T>(text: string | undefined, field: keyof T & string): T {
  try {
    const value = JSON.parse(text ?? '') as T;
    if (typeof value[field] === 'string') return value;
  } catch {
    // Below.
  }
  throw new RangeError(`this is not a ${STATEMENT_FORMAT} file`);
}

function keyOf(der: Buffer): KeyObject | null {
  try {
    const key = createPublicKey({ key: der, format: 'der', type: 'spki' });
    return key.asymmetricKeyType === 'ed25519' ? key : null;
  } catch {
    return null;
  }
}
