import { Controller, Get, Header } from '@nestjs/common';
import { z } from 'zod';
import { Context } from '../context.js';
import { openApiDocument } from './openapi.js';
import { Public } from './require.decorator.js';
import { RouteTable } from './routes.js';

@Controller('api/v1/openapi.json')
export class OpenApiController {
  /** Text, once: the document never changes while we run. */
  readonly #document: string;

  constructor(routes: RouteTable, context: Context) {
    this.#document = JSON.stringify(openApiDocument(routes.routes, context.config.PUBLIC_URL));
  }

  @Get()
  @Public({ summary: 'This document', reply: z.record(z.string(), z.unknown()) })
  @Header('content-type', 'application/json; charset=utf-8')
  get(): string {
    return this.#document;
  }
}
