import { Controller, Get, Param, Query, type StreamableFile } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import type { SubscriptionId } from '@penstock/domain/ids';
import { Database } from '../database.js';
import { ActorOf, type Actor } from '../http/actor.js';
import { AcceptsCsv, csvFile, csvLine, wantsCsv } from '../http/csv.js';
import { id } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as series from './series.schema.js';
import { UsageService, type UsageSeries, type UsageTop } from './series.service.js';
import * as schema from './usage.schema.js';
import { findUsage, type UsageRow } from './usage.store.js';

interface Usage extends Omit<UsageRow, 'periodId' | 'startedAt' | 'endsAt'> {
  period: { periodId: string; startedAt: Date; endsAt: Date | null } | null;
}

@Controller('api/v1')
export class UsageController {
  constructor(
    private readonly database: Database,
    private readonly usage: UsageService,
  ) {}

  @Get('subscriptions/:subscriptionId/usage')
  @Require('usage.read', {
    summary: 'Usage of a subscription in its current period',
    reply: schema.usage,
    errors: ['not_found'],
  })
  async get(
    @ActorOf() actor: Actor,
    @Param('subscriptionId', { schema: id<SubscriptionId>() }) subscriptionId: SubscriptionId,
  ): Promise<Usage> {
    const row = await this.database.transaction(actor, (acting) => findUsage(acting, subscriptionId));
    if (row === null) throw new AppError('not_found', 'there is no such subscription');
    const { periodId, startedAt, endsAt, ...usage } = row;
    return {
      ...usage,
      period: periodId === null || startedAt === null ? null : { periodId, startedAt, endsAt },
    };
  }

  @Get('usage/series')
  @Require('usage.read', {
    summary: 'Usage over time, as JSON or CSV; at most 30 seconds old',
    reply: series.usageSeries,
  })
  async series(
    @ActorOf() actor: Actor,
    @Query({ schema: series.seriesQuery }) query: series.SeriesQuery,
    @AcceptsCsv() accepts: boolean,
  ): Promise<UsageSeries | StreamableFile> {
    const found = await this.usage.series(actor, query);
    return wantsCsv(query.format, accepts) ? csvFile(seriesLines(found), 'usage-series.csv') : found;
  }

  @Get('usage/top')
  @Require('usage.read', {
    summary: 'Who or what used most in a range of days, as JSON or CSV; subscriptions at most 6 minutes old',
    reply: series.usageTop,
  })
  async top(
    @ActorOf() actor: Actor,
    @Query({ schema: series.topQuery }) query: series.TopQuery,
    @AcceptsCsv() accepts: boolean,
  ): Promise<UsageTop | StreamableFile> {
    const found = await this.usage.top(actor, query);
    return wantsCsv(query.format, accepts) ? csvFile(topLines(found), 'usage-top.csv') : found;
  }
}

function* seriesLines({ by, series }: UsageSeries): Generator<string> {
  yield csvLine([by, 'at', 'up_bytes', 'down_bytes', 'billable_bytes']);
  for (const { key, points } of series)
    for (const { at, upBytes, downBytes, billableBytes } of points)
      yield csvLine([key, at, upBytes, downBytes, billableBytes]);
}

/** Without names: people typed them. */
function* topLines({ by, items }: UsageTop): Generator<string> {
  yield csvLine([by, 'up_bytes', 'down_bytes', 'billable_bytes']);
  for (const { key, upBytes, downBytes, billableBytes } of items)
    yield csvLine([key, upBytes, downBytes, billableBytes]);
}
