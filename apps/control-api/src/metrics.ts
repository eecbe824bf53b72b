// What control-api counts. Routes are templates from the route table, so nobody can make series by asking for paths.
import { Counter, Histogram } from 'prom-client';
import type { Metrics } from '@penstock/service/metrics';
import type { Route } from './http/routes.js';

const SECONDS = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5];
/** Anything that is no route of ours. */
const NO_ROUTE = 'none';

export interface HttpMetrics {
  /** `route`: the template as Fastify reports it, undefined when none matched. */
  observe(method: string, route: string | undefined, status: number, seconds: number): void;
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
  const known = new Set(routes.map((route) => `${route.method} ${route.path}`));
  return {
    observe(method, template, status, seconds) {
      const isKnown = template !== undefined && known.has(`${method} ${template}`);
      const labels = isKnown ? { method, route: template } : { method: 'other', route: NO_ROUTE };
      requests.inc({ ...labels, status: String(status) });
      duration.observe(labels, seconds);
    },
  };
}
