// The text of a statement: what one tenant used in one month, as it is signed, kept and downloaded. A file is NDJSON:
// the signed header, the signature, then a line for each subscription, engine and month. The header names the digest of
// the lines and the statement before, so that neither a line nor a statement can be changed or left out unseen. Pure;
// written by the scheduler, given out by control-api, checked by `penstock statement verify`.
import { engineNumber, type Engine } from './terms.js';

export const STATEMENT_FORMAT = 'penstock-statement/1';

/** Bytes as decimal strings. */
export interface StatementBytes {
  upBytes: string;
  downBytes: string;
  /** Raw times the node's multiplier, row by row. */
  billableBytes: string;
}

/** The signed part, in this order of fields. */
export interface StatementHeader {
  format: typeof STATEMENT_FORMAT;
  tenantId: string;
  statementId: string;
  /** 2026-10; days are those of the tenant's time zone at the time that they were counted in. */
  month: string;
  timeZone: string;
  closedAt: string;
  lines: number;
  /** SHA-256 of all lines with their line ends, hex. */
  linesDigest: string;
  /** Of this month. */
  usage: StatementBytes;
  /** Of earlier months, known only after their own statement. */
  corrections: StatementBytes & { lines: number };
  /** SHA-256 of the header before, hex; null for the first. */
  previous: string | null;
  keyId: string;
}

export interface StatementSignature {
  /** Ed25519 over the bytes of the first line without its end, base64. */
  signature: string;
  /** SPKI DER, base64. Says which key it was; whether it is ours only its fingerprint tells. */
  publicKey: string;
}

export interface StatementLine {
  /** Of the statement, or an earlier one: then it is a correction. */
  month: string;
  subscriptionId: string;
  engine: Engine;
  upBytes: bigint;
  downBytes: bigint;
  billableBytes: bigint;
}

const engineNames = new Map<number, Engine>(
  Object.entries(engineNumber).map(([name, number]) => [number, name as Engine]),
);

/** Throws RangeError for a number that is no engine's. */
export function engineName(number: number): Engine {
  const name = engineNames.get(number);
  if (name === undefined) throw new RangeError(`there is no engine ${number}`);
  return name;
}

/** The bytes that are signed. */
export function headerText(header: StatementHeader): string {
  const { usage, corrections } = header;
  const bytes = (of: StatementBytes): StatementBytes => ({
    upBytes: of.upBytes,
    downBytes: of.downBytes,
    billableBytes: of.billableBytes,
  });
  return JSON.stringify({
    format: header.format,
    tenantId: header.tenantId,
    statementId: header.statementId,
    month: header.month,
    timeZone: header.timeZone,
    closedAt: header.closedAt,
    lines: header.lines,
    linesDigest: header.linesDigest,
    usage: bytes(usage),
    corrections: { lines: corrections.lines, ...bytes(corrections) },
    previous: header.previous,
    keyId: header.keyId,
  } satisfies StatementHeader);
}

/** One line of the file with its end; lines are ordered by month, subscription and engine. */
export function lineText(line: StatementLine): string {
  const { month, subscriptionId, engine, upBytes, downBytes, billableBytes } = line;
  const bytes = [upBytes, downBytes, billableBytes].map(String);
  return `${JSON.stringify([month, subscriptionId, engine, ...bytes])}\n`;
}
