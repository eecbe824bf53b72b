// Time series and top lists of usage: which tables answer, and how much at most. Hours begin on the full hour of the
// tenant's zone; in another zone an hour is shown where it begins.
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { engineName } from '@penstock/domain/statement';
import { engineNumber } from '@penstock/domain/terms';
import { Context } from '../context.js';
import { Database } from '../database.js';
import type { Actor } from '../http/actor.js';
import {
  POINTS_MAX,
  TOP_DAYS_MAX,
  TOP_SUBSCRIPTION_DAYS_MAX,
  type Grouping,
  type SeriesQuery,
  type Step,
  type TopQuery,
} from './series.schema.js';
import {
  findZone,
  listNodeSeries,
  listSubscriptionSeries,
  listTopNodes,
  listTopSubscriptions,
  type SeriesRow,
  type Span,
  type TopRow,
  type UsageBytes,
} from './series.store.js';

const DAY_MS = 86_400_000;
const DEFAULT_DAYS = 30;
const stepMs: Record<Step, number> = { hour: 3_600_000, day: DAY_MS, month: 28 * DAY_MS };

export interface UsageSeries {
  by: Grouping;
  step: Step;
  timeZone: string;
  from: Date;
  to: Date;
  series: { key: string; points: ({ at: Date } & UsageBytes)[] }[];
}

export interface UsageTop {
  by: Grouping;
  from: string;
  to: string;
  items: TopRow[];
}

@Injectable()
export class UsageService {
  constructor(
    private readonly database: Database,
    private readonly context: Context,
  ) {}

  async series(actor: Actor, query: SeriesQuery): Promise<UsageSeries> {
    const { by, step, subscriptionId } = query;
    requireScope(actor, query);
    if (by === 'subscription' && subscriptionId === undefined)
      throw new AppError('invalid_input', 'name a subscription, or ask for the top list', {
        field: 'subscriptionId',
      });
    const to = query.to ?? new Date(this.context.clock.now());
    const from = query.from ?? new Date(to.getTime() - DEFAULT_DAYS * DAY_MS);
    if (from >= to) throw new AppError('invalid_input', 'from must lie before to', { field: 'from' });
    if ((to.getTime() - from.getTime()) / stepMs[step] > POINTS_MAX) throw tooMany('from');
    return this.database.transaction(actor, async (acting) => {
      const timeZone = query.timeZone ?? (await findZone(acting));
      const span: Span = {
        ...{ by, step, timeZone, from, to, nodeId: query.nodeId ?? null, limit: POINTS_MAX + 1 },
        engine: query.engine === undefined ? null : engineNumber[query.engine],
      };
      const rows =
        subscriptionId === undefined
          ? await listNodeSeries(acting, span, query.scope === 'all')
          : await listSubscriptionSeries(acting, subscriptionId, span, daysBetween(from, to));
      if (rows.length > POINTS_MAX) throw tooMany('step');
      return { by, step, timeZone, from, to, series: grouped(by, rows) };
    });
  }

  async top(actor: Actor, query: TopQuery): Promise<UsageTop> {
    requireScope(actor, query);
    const { by, subscriptionId } = query;
    if (by !== 'subscription' && subscriptionId !== undefined)
      throw new AppError('invalid_input', 'ask for the series of a subscription', {
        field: 'subscriptionId',
      });
    return this.database.transaction(actor, async (acting) => {
      const to = query.to ?? today(acting.at, await findZone(acting));
      const from = query.from ?? dateOf(Date.parse(to) - DEFAULT_DAYS * DAY_MS);
      if (from > to) throw new AppError('invalid_input', 'from must not lie after to', { field: 'from' });
      const daysMax = by === 'subscription' ? TOP_SUBSCRIPTION_DAYS_MAX : TOP_DAYS_MAX;
      if (Date.parse(to) - Date.parse(from) > daysMax * DAY_MS)
        throw new AppError('invalid_input', `at most ${daysMax} days`, { field: 'from' });
      const days = {
        ...{ by, from, to, nodeId: query.nodeId ?? null, limit: query.limit },
        engine: query.engine === undefined ? null : engineNumber[query.engine],
      };
      const rows =
        by === 'subscription'
          ? await listTopSubscriptions(acting, days, subscriptionId ?? null)
          : await listTopNodes(acting, days, query.scope === 'all' ? null : actor.tenantId);
      return { by, from, to, items: rows.map((row) => ({ ...row, key: keyOf(by, row.key) })) };
    });
  }
}

function requireScope(actor: Actor, query: SeriesQuery | TopQuery): void {
  if (query.scope === 'own') return;
  if (!actor.platform)
    throw new AppError('forbidden', 'only the platform sees all tenants', { field: 'scope' });
  if (query.by === 'subscription' || query.subscriptionId !== undefined)
    throw new AppError('invalid_input', 'subscriptions are seen in their own tenant only', {
      field: 'scope',
    });
}

function tooMany(field: string): AppError {
  return new AppError(
    'invalid_input',
    `more than ${POINTS_MAX} points: take a longer step or a shorter time`,
    {
      field,
    },
  );
}

const keyOf = (by: Grouping, key: string): string => (by === 'engine' ? engineName(Number(key)) : key);

/** Rows come by key and time. */
function grouped(by: Grouping, rows: readonly SeriesRow[]): UsageSeries['series'] {
  const series: UsageSeries['series'] = [];
  let last: string | null = null;
  for (const { key, ...point } of rows) {
    if (key !== last) series.push({ key: keyOf(by, key), points: [] });
    last = key;
    series.at(-1)?.points.push(point);
  }
  return series;
}

const dateOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

/** Dates that hours of the span may have in any zone. */
function daysBetween(from: Date, to: Date): string[] {
  const days: string[] = [];
  for (let ms = from.getTime() - 2 * DAY_MS; ms < to.getTime() + 2 * DAY_MS; ms += DAY_MS)
    days.push(dateOf(ms));
  return days;
}

function today(at: Date, timeZone: string): string {
  return new Intl.DateTimeFormat('en-CA', { timeZone, dateStyle: 'short' }).format(at);
}
