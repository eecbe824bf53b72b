import { Controller, Get } from '@nestjs/common';
import { z } from 'zod';
import { Context } from '../context.js';
import { openApiDocument } from './openapi.js';
import { Public } from './require.decorator.js';
import { RouteTable } from './routes.js';

@Controller('api/v1/openapi.json')
export class OpenApiController {
  readonly #document: object;

  constructor(routes: RouteTable, context: Context) {
    this.#document = openApiDocument(routes.routes, context.config.PUBLIC_URL);
  }

  @Get()
  @Public({ summary: 'This document', reply: z.record(z.string(), z.unknown()) })
  get(): object {
    return this.#document;
  }
}
