import { z } from 'zod';
import type { Id } from '@penstock/domain/ids';
import { format } from '../http/csv.js';
import { exampleIds } from '../http/example-ids.js';
import { bytesText, id, idText, pageReply, pageShape, timeText } from '../http/fields.js';

export type StatementId = Id<'statement'>;
export const statementId = id<StatementId>();

const month = z.string().regex(/^[0-9]{4}-(0[1-9]|1[0-2])$/, 'must be a month, as in 2026-10');

export const statementQuery = z.strictObject(pageShape);
export const fileQuery = z.strictObject({ format });
export const previewQuery = z.strictObject({
  month: month.optional().meta({ description: 'By default the current one in the tenant’s time zone.' }),
});

const bytesShape = { upBytes: bytesText, downBytes: bytesText, billableBytes: bytesText };

export const statement = z
  .strictObject({
    statementId: idText,
    month,
    timeZone: z.string().meta({ description: 'Of the tenant when it was closed.' }),
    closedAt: timeText,
    lines: z.number().int(),
    linesDigest: z.string().meta({ description: 'SHA-256 of the lines of the file, hex.' }),
    usage: z.strictObject(bytesShape).meta({ description: 'Of the month itself.' }),
    corrections: z
      .strictObject({ lines: z.number().int(), ...bytesShape })
      .meta({ description: 'Of earlier months: usage that arrived after their own statement.' }),
    previous: z.string().nullable().meta({ description: 'Digest of the statement before, hex.' }),
    digest: z.string().meta({ description: 'SHA-256 of the signed header, hex.' }),
    keyId: idText,
    signature: z.string().meta({ description: 'Ed25519 over the signed header, base64.' }),
  })
  .meta({
    examples: [
      {
        ...{ statementId: exampleIds.statement, month: '2026-10', timeZone: 'Europe/Berlin' },
        ...{ closedAt: '2026-11-02T23:00:04.120Z', lines: 1, linesDigest: '5a'.repeat(32) },
        usage: { upBytes: '1000', downBytes: '9000', billableBytes: '10000' },
        corrections: { lines: 0, upBytes: '0', downBytes: '0', billableBytes: '0' },
        ...{ previous: null, digest: '7e'.repeat(32), keyId: exampleIds.key },
        signature: Buffer.alloc(64).toString('base64'),
      },
    ],
  });
export const statementPage = pageReply(statement);

export const preview = z.strictObject({
  month,
  timeZone: z.string(),
  usage: z.strictObject(bytesShape).meta({ description: 'So far; at most 30 seconds old. Not signed.' }),
  closesAt: timeText.meta({ description: 'When the statement of this month is due.' }),
  statementId: idText.nullable().meta({ description: 'Of the statement, when there is one already.' }),
});

export const statementKey = z.strictObject({
  keyId: idText,
  publicKey: z.string().meta({ description: 'Ed25519, SPKI DER, base64.' }),
  fingerprint: z.string().meta({ description: 'SHA-256 of the public key, hex: what `verify` shows.' }),
  createdAt: timeText,
  retiredAt: timeText
    .nullable()
    .meta({ description: 'From then on it signed nothing; what it signed before stays good.' }),
});
export const statementKeys = z.strictObject({ items: z.array(statementKey) });
