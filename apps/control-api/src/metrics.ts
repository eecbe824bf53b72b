// What control-api counts. Routes are templates from the route table, so nobody can make series by asking for paths.
import { Counter, Histogram } from 'prom-client';
import { errorCodes, type ErrorCode } from '@penstock/domain/errors';
import type { Metrics } from '@penstock/service/metrics';
import type { Route } from './http/routes.js';

const SECONDS = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
const authCodes = ['unauthenticated', 'forbidden', 'token_invalid', 'token_expired', 'token_used'] as const;
/** Anything that is no route of ours. */
const NO_ROUTE = 'none';

export interface HttpMetrics {
  /** `route`: the template as Fastify reports it, undefined when none matched. */
  observe(method: string, route: string | undefined, status: number, seconds: number): void;
  /** An answer that was a refusal. */
  refused(code: ErrorCode): void;
}

export function httpMetrics(metrics: Metrics, routes: readonly Route[]): HttpMetrics {
  const registers = [metrics.registry];
  // Not the closed wrapper: method, route and status are closed together, their product would be refused.
  const requests = new Counter({
    ...{ name: 'http_requests_total', help: 'Requests answered', registers },
    labelNames: ['method', 'route', 'status'],
  });
  const duration = new Histogram({
    ...{ name: 'http_request_duration_seconds', help: 'Time to answer', registers },
    ...{ labelNames: ['method', 'route'], buckets: SECONDS },
  });
  const codes = Object.keys(errorCodes) as ErrorCode[];
  const problems = metrics.counter('http_problems_total', 'Requests refused, by code', { code: codes });
  const failures = metrics.counter('auth_failures_total', 'Refusals for want of identity or right', {
    reason: authCodes,
  });
  const known = new Set(routes.map((route) => `${route.method} ${route.path}`));
  return {
    observe(method, template, status, seconds) {
      const isKnown = template !== undefined && known.has(`${method} ${template}`);
      const labels = isKnown ? { method, route: template } : { method: 'other', route: NO_ROUTE };
      requests.inc({ ...labels, status: String(status) });
      duration.observe(labels, seconds);
    },
    refused(code) {
      problems.inc({ code });
      const reason = authCodes.find((one) => one === code);
      if (reason !== undefined) failures.inc({ reason });
    },
  };
}
