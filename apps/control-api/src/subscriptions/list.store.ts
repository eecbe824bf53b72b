// Lists of subscriptions: pages in every order and search by prefix, at the same cost among a million. A statement for each
// order and for the filter that narrows most, put together here once from constants, so that each has an index whose
// order is the page's; further filters are checked row by row. Measured: bench/list-subscriptions.ts.
import { AppError } from '@penstock/domain/errors';
import type { SubscriptionId } from '@penstock/domain/ids';
import { run, statement, type Statement } from '@penstock/db/statement';
import { z } from 'zod';
import type { Acting } from '../database.js';
import type { Page } from '../http/fields.js';
import { subscriptionSorts, type SubscriptionQuery, type SubscriptionSort } from './subscriptions.schema.js';
import { COLUMNS, FROM, type Subscription } from './subscriptions.store.js';

type Filter = Omit<SubscriptionQuery, 'limit' | 'cursor' | 'sort'>;
type Listed = Subscription & { sortKey: string };

/** Filters by how much they narrow, as plain conditions for the index that leads there. */
const narrow = {
  externalRef: 's.ref_fold = lower($5)',
  state: 'e.effective_state = $4',
  planId: 's.plan_id = $2',
  adminState: 's.admin_state = $3',
  nothing: 'true',
} as const;
type Narrow = keyof typeof narrow;

const WHERE = `s.tenant_id = $1 AND s.deleted_at IS NULL AND ($2::uuid IS NULL OR s.plan_id = $2)
  AND ($3::text IS NULL OR s.admin_state = $3) AND ($4::text IS NULL OR e.effective_state = $4)
  AND ($5::text IS NULL OR s.ref_fold = lower($5)) AND coalesce(s.expires_at, 'infinity') <= $6::timestamptz`;

/** After every name, in the order of bytes. */
const LAST_TEXT = '\u{10ffff}';
const FIRST_ID = '00000000-0000-0000-0000-000000000000';
const LAST_ID = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

const orders = {
  createdAt: { key: 's.subscription_id', type: 'uuid', first: FIRST_ID, last: LAST_ID },
  name: { key: 's.name_fold', type: 'text', first: '', last: LAST_TEXT },
  expiresAt: {
    key: `coalesce(s.expires_at, 'infinity')`,
    type: 'timestamptz',
    first: '-infinity',
    last: 'infinity',
  },
} as const;

function orderOf(sort: SubscriptionSort) {
  const down = sort.startsWith('-');
  const order = orders[(down ? sort.slice(1) : sort) as keyof typeof orders];
  const start = down ? { key: order.last, id: LAST_ID } : { key: order.first, id: FIRST_ID };
  return { ...order, down, start };
}

// One on the state begins with the states, whose index is in the order of ids.
const pages = new Map<string, Statement<Listed>>();
for (const sort of subscriptionSorts) {
  const { key, type, down } = orderOf(sort);
  const [beyond, direction] = down ? ['<', 'DESC'] : ['>', 'ASC'];
  for (const filter of Object.keys(narrow) as Narrow[]) {
    const from = filter === 'state' ? FROM.replace('LEFT JOIN', 'JOIN') : FROM;
    const named = statement<Listed>(
      `subscription.page.${sort}.${filter}`,
      `SELECT ${COLUMNS}, (${key})::text AS "sortKey" ${from}
        WHERE ${WHERE} AND ${narrow[filter]} AND (${key}, s.subscription_id) ${beyond} ($7::${type}, $8::uuid)
        ORDER BY ${key} ${direction}, s.subscription_id ${direction} LIMIT $9`,
    );
    pages.set(`${sort}.${filter}`, named);
  }
}

// What a search finds by name comes first, then what it finds by reference alone; each in its own order. The page's start
// is the only lower bound: of two an index scan takes either, and may walk a million keys to the other.
const find = (by: 'name' | 'ref', and: string): Statement<Listed> =>
  statement<Listed>(
    `subscription.find_by_${by}`,
    `SELECT ${COLUMNS}, s.${by}_fold AS "sortKey" ${FROM}
      WHERE ${WHERE} AND s.${by}_fold < lower($10) || '${LAST_TEXT}' ${and}
        AND (s.${by}_fold, s.subscription_id) > (greatest($7::text COLLATE "C", lower($10)), $8::uuid)
      ORDER BY s.${by}_fold, s.subscription_id LIMIT $9`,
  );
const finds = {
  name: find('name', ''),
  ref: find('ref', `AND NOT (s.name_fold >= lower($10) AND s.name_fold < lower($10) || '${LAST_TEXT}')`),
} as const;

/** Where a page ended: in which order, at which key and id. */
const cursorShape = z.tuple([
  z.enum([...subscriptionSorts, 'by_name', 'by_ref']),
  z.string().max(400),
  z.guid(),
]);
type Cursor = z.output<typeof cursorShape>;

function readCursor(text: string | undefined, fits: (order: Cursor[0]) => boolean): Cursor | null {
  if (text === undefined) return null;
  try {
    const cursor = cursorShape.parse(JSON.parse(Buffer.from(text, 'base64url').toString()));
    if (fits(cursor[0]) && keyFits(cursor)) return cursor;
  } catch {
    // Whatever it was, it is none of ours.
  }
  throw new AppError('invalid_input', 'cursor: not of a page in this order', { field: 'cursor' });
}

/** A key that the statement can take: what we wrote is, anything may come back. */
function keyFits([order, key]: Cursor): boolean {
  if (order.endsWith('createdAt')) return z.guid().safeParse(key).success;
  if (order.endsWith('expiresAt')) return /^(infinity|[0-9]{4}-[0-9: .+-]{6,40})$/.test(key) && isTime(key);
  return key.isWellFormed() && !key.includes('\0');
}

function isTime(key: string): boolean {
  return key === 'infinity' || !Number.isNaN(Date.parse(key));
}

const write = (cursor: Cursor): string => Buffer.from(JSON.stringify(cursor)).toString('base64url');

function narrowest(filter: Filter): Narrow {
  const given = (Object.keys(narrow) as Narrow[]).find(
    (each) => each !== 'nothing' && filter[each] !== undefined,
  );
  return given ?? 'nothing';
}

function conditions({ actor }: Acting, filter: Filter): unknown[] {
  const { planId, adminState, state, externalRef, expiresBefore } = filter;
  const before = expiresBefore ?? 'infinity';
  return [actor.tenantId, planId ?? null, adminState ?? null, state ?? null, externalRef ?? null, before];
}

/** A page. Throws invalid_input naming the cursor. */
export async function listSubscriptions(
  acting: Acting,
  query: SubscriptionQuery,
): Promise<Page<Subscription>> {
  if (query.q !== undefined) return search(acting, { ...query, q: query.q });
  const { limit, ...filter } = query;
  const sort = query.sort ?? (query.expiresBefore === undefined ? 'createdAt' : 'expiresAt');
  const cursor = readCursor(query.cursor, (order) => order === sort);
  const { start } = orderOf(sort);
  const named = pages.get(`${sort}.${narrowest(filter)}`);
  if (named === undefined) throw new AppError('internal', 'an order without a statement');
  const after = [cursor?.[1] ?? start.key, cursor?.[2] ?? start.id];
  const rows = await run(acting.client, named, [...conditions(acting, filter), ...after, limit + 1]);
  const last = rows.length > limit ? rows[limit - 1] : undefined;
  return {
    items: rows.slice(0, limit).map(withoutKey),
    nextCursor: last === undefined ? null : write([sort, last.sortKey, last.subscriptionId]),
  };
}

async function search(acting: Acting, query: SubscriptionQuery & { q: string }): Promise<Page<Subscription>> {
  const { limit, q, ...filter } = query;
  const cursor = readCursor(query.cursor, (order) => order.startsWith('by_'));
  const found: { by: 'name' | 'ref'; row: Listed }[] = [];
  for (const by of ['name', 'ref'] as const) {
    if (by === 'name' && cursor?.[0] === 'by_ref') continue;
    if (found.length > limit) break;
    const after = cursor?.[0] === `by_${by}` ? cursor.slice(1) : ['', FIRST_ID];
    const wanted = limit + 1 - found.length;
    const rows = await run(acting.client, finds[by], [...conditions(acting, filter), ...after, wanted, q]);
    found.push(...rows.map((row) => ({ by, row })));
  }
  const last = found.length > limit ? found[limit - 1] : undefined;
  return {
    items: found.slice(0, limit).map(({ row }) => withoutKey(row)),
    nextCursor:
      last === undefined ? null : write([`by_${last.by}`, last.row.sortKey, last.row.subscriptionId]),
  };
}

function withoutKey({ sortKey: _key, ...row }: Listed): Subscription {
  return row;
}

const selectIds = statement<{ subscriptionId: SubscriptionId }>(
  'subscription.ids',
  `SELECT s.subscription_id AS "subscriptionId" ${FROM}
    WHERE ${WHERE} AND ($7::text IS NULL OR (s.name_fold >= lower($7) AND s.name_fold < lower($7) || '${LAST_TEXT}')
      OR (s.ref_fold >= lower($7) AND s.ref_fold < lower($7) || '${LAST_TEXT}'))
    ORDER BY s.subscription_id LIMIT $8`,
);

/** Ids of all that the filter finds, `max` at most. */
export async function listIds(acting: Acting, filter: Filter, max: number): Promise<SubscriptionId[]> {
  const rows = await run(acting.client, selectIds, [...conditions(acting, filter), filter.q ?? null, max]);
  return rows.map((row) => row.subscriptionId);
}
