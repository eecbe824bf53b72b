// The HTTP server around the module: limits, content types, headers, logs. Used by main and by tests.
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { NestFactory } from '@nestjs/core';
import type { DynamicModule } from '@nestjs/common';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { AppError } from '@penstock/domain/errors';
import { parseCidrs } from '@penstock/service/ops-server';
import { Context } from '../context.js';
import { clientAddress, isIn } from './client-address.js';
import { RequestLimits } from '../limits/request-limits.js';
import { httpMetrics } from '../metrics.js';
import { asAppError, problemCodeOf, sendProblem } from './problem.filter.js';
import { ownNames, refusalOf } from './request-rules.js';
import { RouteTable } from './routes.js';
import { parseStrictJson } from './strict-json.js';
import { wireText } from './wire-text.js';

export const BODY_BYTES_MAX = 1024 * 1024;
const HEADER_BYTES_MAX = 16 * 1024;
const REQUEST_TIMEOUT_MS = 30_000;
const CONNECTION_TIMEOUT_MS = 60_000;
const KEEP_ALIVE_MS = 72_000;
const PATH_PARAMETER_MAX = 100;

const UUID_V4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

const headers = {
  'cache-control': 'no-store',
  'content-security-policy': `default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'`,
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'permissions-policy': 'geolocation=(), camera=(), microphone=()',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
};

/** Builds the application; the caller listens. Throws when a route declares no permission. */
export async function createServer(module: DynamicModule): Promise<NestFastifyApplication> {
  const adapter = new FastifyAdapter({
    bodyLimit: BODY_BYTES_MAX,
    requestTimeout: REQUEST_TIMEOUT_MS,
    connectionTimeout: CONNECTION_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_MS,
    http: { maxHeaderSize: HEADER_BYTES_MAX },
    routerOptions: { maxParamLength: PATH_PARAMETER_MAX, caseSensitive: true, ignoreTrailingSlash: false },
    trustProxy: trustedProxies(module),
    genReqId: (request: IncomingMessage) => {
      const given = request.headers['x-request-id'];
      return typeof given === 'string' && UUID_V4.test(given) ? given : randomUUID();
    },
    skipMiddie: true,
    // A target that is no URL: answered by us, without an echo of it.
    frameworkErrors: (_error: Error, request: FastifyRequest, reply: FastifyReply) => {
      sendProblem(reply, new AppError('invalid_input', 'the request is not well-formed'), request.id);
    },
  });
  const app = await NestFactory.create<NestFastifyApplication>(module, adapter, {
    logger: false,
    bodyParser: false,
    abortOnError: false,
  });
  await hooks(app);
  await app.init();
  return app;
}

/** Who is believed about where a request came from; an address must be spelled as one. */
function trustedProxies(module: DynamicModule): false | ((address: string) => boolean) {
  const provider = module.providers?.find((item) => 'provide' in item && item.provide === Context);
  const context = (provider as { useValue: Context } | undefined)?.useValue;
  const proxies = context?.config.TRUSTED_PROXIES ?? [];
  if (proxies.length === 0) return false;
  const list = parseCidrs(proxies.join(','), 'TRUSTED_PROXIES');
  return (address) => isIn(list, clientAddress(address));
}

async function hooks(app: NestFastifyApplication): Promise<void> {
  const { log, metrics, config } = app.get(Context);
  const observed = httpMetrics(metrics, app.get(RouteTable).routes);
  const server = app.getHttpAdapter().getInstance();
  const all = config.PUBLIC_URL.startsWith('https:')
    ? { ...headers, 'strict-transport-security': 'max-age=31536000' }
    : headers;
  const names = ownNames(config.PUBLIC_URL, config.ALLOWED_HOSTS);
  const limits = app.get(RequestLimits);
  // JSON is the only thing we read, and we read it strictly.
  server.removeAllContentTypeParsers();
  server.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => {
    try {
      done(null, parseStrictJson(body as Buffer));
    } catch (error) {
      done(error as Error);
    }
  });
  server.addHook('onRequest', (request, reply, done) => {
    void reply.headers(all).header('x-request-id', request.id);
    const facts = {
      method: request.method,
      target: request.raw.url ?? '',
      rawHeaders: request.raw.rawHeaders,
    };
    const refuse = (error: unknown): void => sendProblem(reply, asAppError(error), request.id);
    const goOn = (): void => {
      const refusal = refusalOf(facts, names);
      if (refusal === null) done();
      else refuse(refusal);
    };
    const asked = limits.ofAddress(request, reply);
    if (asked instanceof Promise) asked.then(goOn, refuse);
    else if (asked === null) goOn();
    else refuse(asked);
  });
  server.setReplySerializer(wireText);
  server.addHook('onResponse', (request, reply, done) => {
    const { method } = request;
    const route = request.is404 ? undefined : request.routeOptions.url;
    const ms = reply.elapsedTime;
    observed.observe(method, route, reply.statusCode, ms / 1000);
    const code = problemCodeOf(reply);
    if (code !== undefined) observed.refused(code);
    const fields = { requestId: request.id, method, route, status: reply.statusCode, code };
    log.info({ ...fields, durationMs: Math.round(ms) }, 'request');
    done();
  });
}
