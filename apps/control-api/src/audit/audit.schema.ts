import { z } from 'zod';
import type { AccountId, KeyId } from '@penstock/domain/ids';
import { bytesText, id, idText, pageShape, time, timeText } from '../http/fields.js';

const seq = z
  .string()
  .regex(/^[0-9]{1,18}$/, 'must be the number of a row')
  .transform((text) => BigInt(text));
const word = z
  .string()
  .regex(/^[a-z][a-z0-9_.]{0,59}$/, 'must be small letters, digits, dots and underscores');

const filterShape = {
  /** `noun.verb`, as in `subscription.update`. */
  action: word.optional(),
  entity: word.optional(),
  entityId: id().optional(),
  accountId: id<AccountId>().optional(),
  keyId: id<KeyId>().optional(),
  from: time.optional(),
  to: time.optional(),
};

export const auditQuery = z.strictObject({
  ...filterShape,
  limit: pageShape.limit,
  /** `nextCursor` of the page before: the number of its last row. */
  cursor: seq.optional(),
});
export type AuditQuery = z.output<typeof auditQuery>;

export const auditExportQuery = z.strictObject({
  ...filterShape,
  /** Goes on after this row; an answer without a line is the end. */
  afterSeq: seq.default(0n),
});
export type AuditExportQuery = z.output<typeof auditExportQuery>;

export const auditVerifyQuery = z.strictObject({
  /** `nextSeq` of the answer before, for a chain that is longer than one answer walks. */
  afterSeq: seq.default(0n),
});

export const auditRow = z.strictObject({
  seq: bytesText.meta({ description: 'Counts from 1 within the tenant, without gaps.' }),
  at: timeText,
  accountId: idText.nullable().meta({ description: 'null: the product itself, or a command on the host.' }),
  accountName: z.string().nullable(),
  keyId: idText.nullable().meta({ description: 'The API key or machine token that acted for the account.' }),
  action: z.string(),
  entity: z.string(),
  entityId: idText.nullable(),
  before: z.looseObject({}).nullable(),
  after: z.looseObject({}).nullable(),
  ip: z.string().nullable(),
  userAgent: z.string().nullable(),
  requestId: z.string(),
  traceId: z.string().nullable(),
  prevHash: z.string(),
  hash: z.string().meta({ description: 'SHA-256 of prevHash and the canonical JSON of this row.' }),
});
export const auditPage = z.strictObject({ items: z.array(auditRow), nextCursor: z.string().nullable() });

export const auditReport = z.strictObject({
  rows: z.number().int(),
  ok: z.boolean(),
  firstWrongSeq: bytesText.nullable(),
  reason: z.string().nullable(),
  nextSeq: bytesText.nullable().meta({ description: 'Ask again with it as afterSeq; null at the end.' }),
});
