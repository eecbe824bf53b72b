// Pieces of schema that several nouns share: how bytes, ids, times, names and pages look on the wire.
import { z } from 'zod';
import { errorCodes } from '@penstock/domain/errors';
import type { Id } from '@penstock/domain/ids';
import { BYTES_MAX } from '@penstock/domain/terms';

export const PAGE_ROWS_MAX = 200;
export const PAGE_ROWS_DEFAULT = 50;

/** An id from outside; lower-cased, so that equal ids are equal strings. */
export const id = <T extends Id<string>>() =>
  z.guid('must be a UUID').transform((text) => text.toLowerCase() as T);

/** An id in an answer. */
export const idText = z.uuid();

const DECIMAL = /^(0|[1-9][0-9]{0,18})$/;

/** A number of bytes from outside: a decimal string, because JSON numbers are exact only to 2^53. */
export const bytes = z
  .string()
  .regex(DECIMAL, 'must be a whole number of bytes as a decimal string, 0 to 9223372036854775807')
  .transform((text) => BigInt(text))
  .refine((value) => value <= BYTES_MAX, 'must be at most 9223372036854775807');

/** A number of bytes in an answer. */
export const bytesText = z.string().regex(DECIMAL);

/** Text that people read: no control characters, nothing that is not Unicode. */
export const text = (max: number) =>
  z
    .string()
    .min(1)
    .max(max)
    .refine((value) => !/\p{Cc}/u.test(value) && value.isWellFormed(), 'must not hold control characters');

/**
 * Reads right to left, or is not there at all: a name with it looks like another. Overrides, isolates, direction marks,
 * zero-width characters, soft hyphen, tags.
 */
const HIDDEN = /[\u00AD\u061C\u180E\u200B-\u200F\u2028-\u202E\u2060-\u206F\uFEFF\u{E0000}-\u{E007F}]/u;
/** Letters that a font draws as a gap, beside spaces and marks that stand alone. */
const BLANK = /^[\s\p{Z}\p{M}\p{Default_Ignorable_Code_Point}\u2800]*$/u;

/** What a person calls a thing or himself: kept without the blanks around it, with something to see in it. */
export const name = z
  .string()
  .trim()
  .min(1)
  .max(100)
  .refine((value) => !/\p{Cc}/u.test(value) && value.isWellFormed(), 'must not hold control characters')
  .refine((value) => !HIDDEN.test(value), 'must not hold invisible characters')
  .refine((value) => !BLANK.test(value), 'must not be empty');

/** A moment from outside. */
export const time = z.iso.datetime({ offset: true }).transform((value) => new Date(value));

/** A moment in an answer. */
export const timeText = z.iso.datetime();

/** A whole number from a query string. */
const count = (max: number) =>
  z
    .string()
    .regex(/^[1-9][0-9]{0,5}$/, `must be a whole number from 1 to ${max}`)
    .transform(Number)
    .refine((value) => value <= max, `must be at most ${max}`);

/** Cursor pages: `cursor` is the id of the last row of the page before. */
export const pageShape = {
  limit: count(PAGE_ROWS_MAX).default(PAGE_ROWS_DEFAULT),
  cursor: id().optional(),
};
export const pageQuery = z.strictObject(pageShape);
export type PageQuery = z.output<typeof pageQuery>;

export interface Page<Row> {
  items: Row[];
  /** Give it as `cursor` for the next page; null at the end. */
  nextCursor: string | null;
}

/** A page from one row more than was asked for. */
export function pageOf<Row>(rows: Row[], limit: number, idOf: (row: Row) => string): Page<Row> {
  const items = rows.slice(0, limit);
  const last = items.at(-1);
  return { items, nextCursor: rows.length > limit && last !== undefined ? idOf(last) : null };
}

export const pageReply = <Item extends z.ZodType>(item: Item) =>
  z.strictObject({ items: z.array(item), nextCursor: idText.nullable() });

export const problem = z.strictObject({
  type: z.string(),
  title: z.string(),
  status: z.number().int(),
  code: z.enum(Object.keys(errorCodes) as [keyof typeof errorCodes]),
  detail: z.string(),
  field: z.string().optional(),
  request_id: idText,
});
