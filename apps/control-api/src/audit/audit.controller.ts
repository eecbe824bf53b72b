import { Controller, Get, Query, type StreamableFile } from '@nestjs/common';
import { ActorOf, type Actor } from '../http/actor.js';
import type { Page } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './audit.schema.js';
import { AuditService, type AuditReport } from './audit.service.js';
import type { AuditView } from './audit.store.js';

@Controller('api/v1/audit')
export class AuditController {
  constructor(private readonly audit: AuditService) {}

  @Get()
  @Require('audit.read', { summary: 'Searches the audit log, newest first', reply: schema.auditPage })
  list(
    @ActorOf() actor: Actor,
    @Query({ schema: schema.auditQuery }) query: schema.AuditQuery,
  ): Promise<Page<AuditView>> {
    return this.audit.list(actor, query);
  }

  @Get('export')
  @Require('audit.read', {
    summary: 'The audit log as one JSON object a line, oldest first, 100,000 lines at most',
    contentType: 'application/x-ndjson',
  })
  export(
    @ActorOf() actor: Actor,
    @Query({ schema: schema.auditExportQuery }) query: schema.AuditExportQuery,
  ): StreamableFile {
    return this.audit.export(actor, query);
  }

  @Get('verify')
  @Require('audit.read', {
    summary: 'Walks the hash chain of the audit log and names the first wrong row',
    reply: schema.auditReport,
  })
  verify(
    @ActorOf() actor: Actor,
    @Query({ schema: schema.auditVerifyQuery }) query: { afterSeq: bigint },
  ): Promise<AuditReport> {
    return this.audit.verify(actor, query.afterSeq);
  }
}
