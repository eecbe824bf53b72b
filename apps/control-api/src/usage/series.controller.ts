import { Controller, Get, Query, type StreamableFile } from '@nestjs/common';
import { ActorOf, type Actor } from '../http/actor.js';
import { AcceptsCsv, csvFile, csvLine, wantsCsv } from '../http/csv.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './series.schema.js';
import { UsageService, type UsageSeries, type UsageTop } from './series.service.js';

@Controller('api/v1/usage')
export class UsageSeriesController {
  constructor(private readonly usage: UsageService) {}

  @Get('series')
  @Require('usage.read', {
    summary: 'Usage over time, as JSON or CSV; at most 30 seconds old',
    reply: schema.usageSeries,
  })
  async series(
    @ActorOf() actor: Actor,
    @Query({ schema: schema.seriesQuery }) query: schema.SeriesQuery,
    @AcceptsCsv() accepts: boolean,
  ): Promise<UsageSeries | StreamableFile> {
    const found = await this.usage.series(actor, query);
    return wantsCsv(query.format, accepts) ? csvFile(seriesLines(found), 'usage-series.csv') : found;
  }

  @Get('top')
  @Require('usage.read', {
    summary: 'Who or what used most in a range of days, as JSON or CSV; subscriptions at most 6 minutes old',
    reply: schema.usageTop,
  })
  async top(
    @ActorOf() actor: Actor,
    @Query({ schema: schema.topQuery }) query: schema.TopQuery,
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
