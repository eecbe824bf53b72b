import { Controller, Get, Header } from '@nestjs/common';
import { z } from 'zod';
import { Context } from '../context.js';
import { homePage } from './home.page.js';
import { openApiDocument } from './openapi.js';
import { referencePage, referencePagePolicy } from './reference.page.js';
import { Public } from './require.decorator.js';
import { RouteTable } from './routes.js';

@Controller()
export class OpenApiController {
  /** Text, once: neither changes while we run. */
  readonly #document: string;
  readonly #page: string;

  constructor(routes: RouteTable, context: Context) {
    const document = openApiDocument(routes.routes, context.config.PUBLIC_URL);
    this.#document = JSON.stringify(document);
    this.#page = referencePage(document);
  }

  @Get()
  @Header('content-type', 'text/html; charset=utf-8')
  @Header('content-security-policy', homePage.policy)
  @Public({ summary: 'The page that says what this is', contentType: 'text/html' })
  home(): string {
    return homePage.html;
  }

  @Get('api/v1/openapi.json')
  @Header('content-type', 'application/json; charset=utf-8')
  @Public({
    summary: 'This document',
    reply: z.record(z.string(), z.unknown()).meta({ examples: [{ openapi: '3.1.0' }] }),
  })
  get(): string {
    return this.#document;
  }

  @Get('api/v1/reference')
  @Header('content-type', 'text/html; charset=utf-8')
  @Header('content-security-policy', referencePagePolicy)
  @Public({ summary: 'This document as a page for people', contentType: 'text/html' })
  page(): string {
    return this.#page;
  }
}
