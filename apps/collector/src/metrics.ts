// What the collector counts. No tenant, node or subscription is ever a label.
import type { CounterMetric, GaugeMetric, HistogramMetric, Metrics } from '@penstock/service/metrics';

const engines = ['xray', 'wireguard'] as const;
const directions = ['up', 'down'] as const;
/** Why frames are not accepted. */
export const rejectReasons = [
  ...([
    'unauth',
    'capacity',
    'order_overflow',
    'frame_malformed',
    'frame_too_large',
    'frame_out_of_order',
    'frame_fork',
  ] as const),
  ...([
    'digest_mismatch',
    'sum_mismatch',
    'signature_invalid',
    'certificate_invalid',
    'certificate_revoked',
  ] as const),
  ...([
    'node_mismatch',
    'stream_frozen',
    'not_assigned',
    'fenced',
    'poison',
    'unavailable',
    'other',
  ] as const),
] as const;
export type RejectReason = (typeof rejectReasons)[number];
const queues = ['frames', 'bytes'] as const;
const quarantineReasons = ['not_assigned', 'above_link_rate', 'no_period'] as const;
const releaseResults = ['billed', 'no_period', 'failed'] as const;
const crossingPaths = ['append', 'flush'] as const;
const results = ['accepted', 'duplicate'] as const;
const steps = ['append', 'flush'] as const;

export interface CollectorMetrics {
  bytes: CounterMetric<{ engine: typeof engines; dir: typeof directions }>;
  frames: CounterMetric<{ result: typeof results }>;
  samples: CounterMetric<Record<never, never>>;
  rejected: CounterMetric<{ reason: typeof rejectReasons }>;
  quarantined: CounterMetric<{ reason: typeof quarantineReasons }>;
  released: CounterMetric<{ result: typeof releaseResults }>;
  crossings: CounterMetric<{ found: typeof crossingPaths }>;
  frozen: CounterMetric<Record<never, never>>;
  healedFrames: CounterMetric<Record<never, never>>;
  lag: HistogramMetric<Record<never, never>>;
  transaction: HistogramMetric<{ step: typeof steps }>;
  queue: GaugeMetric<{ queue: typeof queues }>;
  streams: GaugeMetric<Record<never, never>>;
}

export function collectorMetrics(metrics: Metrics): CollectorMetrics {
  return {
    bytes: metrics.counter('traffic_ingest_bytes_total', 'Bytes of accepted samples.', {
      engine: engines,
      dir: directions,
    }),
    frames: metrics.counter('penstock_collector_frames_total', 'Frames committed, and repeats of such.', {
      result: results,
    }),
    samples: metrics.counter('penstock_collector_samples_total', 'Samples committed.', {}),
    rejected: metrics.counter('rejected_total', 'Frames and streams not accepted, by reason.', {
      reason: rejectReasons,
    }),
    quarantined: metrics.counter('penstock_collector_quarantined_total', 'Usage rows kept but not billed.', {
      reason: quarantineReasons,
    }),
    released: metrics.counter(
      'penstock_collector_released_total',
      'Released usage rows by what became of them; failed: batches of one tenant.',
      { result: releaseResults },
    ),
    crossings: metrics.counter(
      'penstock_collector_crossings_total',
      'Limits reached, by where it was found.',
      { found: crossingPaths },
    ),
    frozen: metrics.counter(
      'penstock_collector_streams_frozen_total',
      'Streams frozen because of a contradicting frame.',
      {},
    ),
    healedFrames: metrics.counter('penstock_collector_gap_frames_total', 'Gap frames accepted.', {}),
    lag: metrics.histogram(
      'traffic_ingest_lag_seconds',
      'From the end of a window to its commit.',
      {},
      [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600],
    ),
    transaction: metrics.histogram(
      'penstock_collector_transaction_seconds',
      'Length of transactions.',
      { step: steps },
      [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
    ),
    queue: metrics.gauge('queue_depth', 'What waits for the group commit.', { queue: queues }),
    streams: metrics.gauge('penstock_collector_streams', 'Streams with an open connection.', {}),
  };
}

/** The label of a refusal's code. */
export function reasonOf(code: string): RejectReason {
  if ((rejectReasons as readonly string[]).includes(code)) return code as RejectReason;
  return code === 'unauthenticated' || code === 'forbidden'
    ? 'unauth'
    : code === 'payload_too_large'
      ? 'capacity'
      : 'other';
}
