import { Controller, Get, HttpCode, Param, Post, Query, type StreamableFile } from '@nestjs/common';
import { ActorOf, type Actor } from '../http/actor.js';
import { AcceptsCsv, wantsCsv, type Format } from '../http/csv.js';
import type { Page, PageQuery } from '../http/fields.js';
import { Require } from '../http/require.decorator.js';
import * as schema from './statements.schema.js';
import { StatementsService, type KeyView, type Preview, type StatementView } from './statements.service.js';

@Controller('api/v1/statements')
export class StatementsController {
  constructor(private readonly statements: StatementsService) {}

  @Get()
  @Require('statement.read', { summary: 'Lists statements, newest first', reply: schema.statementPage })
  list(
    @ActorOf() actor: Actor,
    @Query({ schema: schema.statementQuery }) query: PageQuery,
  ): Promise<Page<StatementView>> {
    return this.statements.list(actor, query);
  }

  @Get('keys')
  @Require('statement.read', {
    summary: 'The public keys by which statements are verified',
    reply: schema.statementKeys,
  })
  keys(@ActorOf() actor: Actor): Promise<{ items: KeyView[] }> {
    return this.statements.keys(actor);
  }

  @Post('keys/rotate')
  @HttpCode(200)
  @Require('statement_key.rotate', {
    summary: 'Signs statements with a new key from now on; what older ones signed goes on verifying',
    reply: schema.statementKey,
    errors: ['limit_reached'],
    sensitive: true,
  })
  rotateKey(@ActorOf() actor: Actor): Promise<KeyView> {
    return this.statements.rotateKey(actor);
  }

  @Get('preview')
  @Require('statement.read', {
    summary: 'A month as its statement would be now, unsigned',
    reply: schema.preview,
    errors: ['not_found'],
  })
  preview(
    @ActorOf() actor: Actor,
    @Query({ schema: schema.previewQuery }) query: { month?: string },
  ): Promise<Preview> {
    return this.statements.preview(actor, query.month ?? null);
  }

  @Get(':statementId')
  @Require('statement.read', { summary: 'One statement', reply: schema.statement, errors: ['not_found'] })
  get(
    @ActorOf() actor: Actor,
    @Param('statementId', { schema: schema.statementId }) id: schema.StatementId,
  ): Promise<StatementView> {
    return this.statements.get(actor, id);
  }

  @Get(':statementId/file')
  @Require('statement.read', {
    summary:
      'The signed file of a statement with all its lines (`penstock statement verify`), or its lines as CSV',
    contentType: 'application/x-ndjson',
    errors: ['not_found'],
  })
  file(
    @ActorOf() actor: Actor,
    @Param('statementId', { schema: schema.statementId }) id: schema.StatementId,
    @Query({ schema: schema.fileQuery }) query: { format?: Format },
    @AcceptsCsv() accepts: boolean,
  ): Promise<StreamableFile> {
    return wantsCsv(query.format, accepts) ? this.statements.csv(actor, id) : this.statements.file(actor, id);
  }
}
