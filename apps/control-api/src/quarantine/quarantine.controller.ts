import { Body, Controller, Get, HttpCode, Post, Query } from '@nestjs/common';
import { appendAudit } from '../audit/audit.store.js';
import { Database } from '../database.js';
import { ActorOf, type Actor } from '../http/actor.js';
import { pageOf, type Page } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './quarantine.schema.js';
import {
  askRelease,
  listQuarantined,
  requireKnown,
  type Asked,
  type Quarantined,
} from './quarantine.store.js';

@Controller('api/v1/quarantine')
export class QuarantineController {
  constructor(private readonly database: Database) {}

  @Get()
  @Require('quarantine.read', {
    summary: 'Lists usage that is kept but not billed, because it cannot be right',
    reply: schema.quarantinePage,
  })
  async list(
    @ActorOf() actor: Actor,
    @Query({ schema: schema.quarantineQuery }) query: schema.QuarantineQuery,
  ): Promise<Page<Quarantined>> {
    const rows = await this.database.transaction(actor, (acting) => listQuarantined(acting, query));
    return pageOf(rows, query.limit, (row) => row.quarantineId);
  }

  @Post('release')
  @HttpCode(200)
  @Require('quarantine.release', {
    summary: 'Has usage in quarantine billed, each row once',
    reply: schema.released,
    errors: ['not_found'],
  })
  release(
    @ActorOf() actor: Actor,
    @Body({ schema: schema.release }) body: schema.Release,
  ): Promise<Asked & { more: boolean }> {
    return this.database.transaction(actor, async (acting) => {
      await requireKnown(acting, body);
      const asked = await askRelease(acting, body);
      const after = { ...body, ...asked };
      if (asked.rows > 0) {
        await appendAudit(acting, {
          action: 'quarantine.release',
          entity: 'quarantine',
          entityId: null,
          after,
        });
      }
      return { ...asked, more: asked.rows === schema.RELEASE_ROWS_MAX };
    });
  }
}
