// Metrics with closed labels: every label value is one of a list given at creation, so nobody can make series. An
// unknown value is counted under `other` in production and refused in tests. Never a tenant, node or customer here.
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

export type Labels = Record<string, readonly string[]>;
type Values<L extends Labels> = { [K in keyof L]: L[K][number] };

/** Series a metric may have at most; creation fails above. */
export const SERIES_MAX = 1000;

export interface CounterMetric<L extends Labels> {
  inc(values: Values<L>, by?: number): void;
}
export interface GaugeMetric<L extends Labels> {
  set(values: Values<L>, value: number): void;
}
export interface HistogramMetric<L extends Labels> {
  observe(values: Values<L>, value: number): void;
}

export interface Metrics {
  readonly registry: Registry;
  counter<const L extends Labels>(name: string, help: string, labels: L): CounterMetric<L>;
  gauge<const L extends Labels>(name: string, help: string, labels: L): GaugeMetric<L>;
  histogram<const L extends Labels>(
    name: string,
    help: string,
    labels: L,
    buckets: number[],
  ): HistogramMetric<L>;
}

/** One registry a process, handed to whoever counts; there is no global one. */
export function createMetrics(): Metrics {
  const registry = new Registry();
  const options = (name: string, help: string, labels: Labels) => {
    const series = Object.values(labels).reduce((product, values) => product * (values.length + 1), 1);
    if (series > SERIES_MAX) throw new RangeError(`${name} could have ${series} series`);
    return { name, help, labelNames: Object.keys(labels), registers: [registry] };
  };
  const closed = (labels: Labels, values: Record<string, string>): Record<string, string> => {
    const out: Record<string, string> = {};
    for (const [key, allowed] of Object.entries(labels)) {
      const value = values[key] ?? '';
      if (allowed.includes(value)) out[key] = value;
      else if (process.env['VITEST'] !== undefined)
        throw new TypeError(`${value} is not a value of label ${key}`);
      else out[key] = 'other';
    }
    return out;
  };
  return {
    registry,
    counter(name, help, labels) {
      const metric = new Counter(options(name, help, labels));
      return { inc: (values, by = 1) => metric.inc(closed(labels, values), by) };
    },
    gauge(name, help, labels) {
      const metric = new Gauge(options(name, help, labels));
      return { set: (values, value) => metric.set(closed(labels, values), value) };
    },
    histogram(name, help, labels, buckets) {
      const metric = new Histogram({ ...options(name, help, labels), buckets });
      return { observe: (values, value) => metric.observe(closed(labels, values), value) };
    },
  };
}
