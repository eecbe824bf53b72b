// Every figure this process shows, in one place. Labels are closed lists; never a tenant, node or subscription.
import type { CounterMetric, GaugeMetric, HistogramMetric, Metrics } from '@penstock/service/metrics';

type None = Record<never, readonly string[]>;
const none: None = {};

const enforcementLabels = {
  kind: ['grant', 'cut'],
  outcome: ['confirmed', 'unproven'],
} as const;
const messageLabels = { kind: ['snapshot', 'delta', 'resend'] } as const;
const closeLabels = {
  reason: ['ended', 'fenced', 'revoked', 'silent', 'stalled', 'fault', 'shutdown'],
} as const;
const refusalLabels = {
  reason: ['busy', 'node_mismatch', 'certificate_invalid', 'certificate_revoked', 'invalid_input'],
} as const;
const queueLabels = { queue: ['access_change', 'node_change', 'stream_admission'] } as const;
const livenessLabels = { state: ['online', 'late', 'offline'] } as const;
const taskLabels = {
  task: [
    'expiry-sweep',
    'period-roll',
    'pool-watch',
    'partition-keeper',
    'event-keeper',
    'sign-in-keeper',
    'idempotency-keeper',
    'audit-heads',
    'node-liveness',
    'usage-rollup',
    'statement-close',
  ],
  outcome: ['done', 'failed'],
} as const;

/** Tasks that go tenant by tenant, where one may fail alone. */
const tenantTaskLabels = { task: ['usage-rollup', 'statement-close'] } as const;
const saturatedLabels = { sum: ['day', 'statement'] } as const;
const deliveryLabels = { result: ['ok', 'retry', 'failed'] } as const;

export interface SchedulerMetrics {
  enforcements: CounterMetric<typeof enforcementLabels>;
  quotaCrossings: CounterMetric<None>;
  activeSubscriptions: GaugeMetric<None>;
  streamsActive: GaugeMetric<None>;
  streamsClosed: CounterMetric<typeof closeLabels>;
  streamsRefused: CounterMetric<typeof refusalLabels>;
  messages: CounterMetric<typeof messageLabels>;
  queueDepth: GaugeMetric<typeof queueLabels>;
  changesTaken: CounterMetric<None>;
  changesSetAside: CounterMetric<None>;
  decideSeconds: HistogramMetric<None>;
  orderSeconds: HistogramMetric<None>;
  confirmSeconds: HistogramMetric<None>;
  addressesExhausted: CounterMetric<None>;
  secretsUnopened: CounterMetric<None>;
  nodes: GaugeMetric<typeof livenessLabels>;
  taskRuns: CounterMetric<typeof taskLabels>;
  tenantFailures: CounterMetric<typeof tenantTaskLabels>;
  usageSaturated: CounterMetric<typeof saturatedLabels>;
  partitionsCreated: CounterMetric<None>;
  webhookDeliveries: CounterMetric<typeof deliveryLabels>;
  eventsWaiting: GaugeMetric<None>;
}

export type TaskName = (typeof taskLabels.task)[number];
export type TenantTaskName = (typeof tenantTaskLabels.task)[number];
export type CloseReason = (typeof closeLabels.reason)[number];
export type RefusalReason = (typeof refusalLabels.reason)[number];

export function schedulerMetrics(metrics: Metrics): SchedulerMetrics {
  const fast = [0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2];
  const slow = [0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 300];
  return {
    enforcements: metrics.counter(
      'quota_enforcements_total',
      'Changes of access acknowledged by nodes',
      enforcementLabels,
    ),
    quotaCrossings: metrics.counter('quota_crossings_total', 'Subscriptions that became limited', none),
    activeSubscriptions: metrics.gauge('active_subscriptions', 'Subscriptions that have access', none),
    streamsActive: metrics.gauge('node_streams_active', 'Enforcement streams held by this process', none),
    streamsClosed: metrics.counter('node_streams_closed_total', 'Enforcement streams closed', closeLabels),
    streamsRefused: metrics.counter(
      'node_streams_refused_total',
      'Enforcement streams refused',
      refusalLabels,
    ),
    messages: metrics.counter('enforcement_messages_total', 'Orders sent to nodes', messageLabels),
    queueDepth: metrics.gauge('queue_depth', 'Rows or requests that wait', queueLabels),
    changesTaken: metrics.counter('access_changes_taken_total', 'access_change rows acted on', none),
    changesSetAside: metrics.counter(
      'access_changes_set_aside_total',
      'access_change rows that could not be acted on',
      none,
    ),
    decideSeconds: metrics.histogram(
      'access_decide_seconds',
      'One batch of changes, taken to committed',
      none,
      fast,
    ),
    orderSeconds: metrics.histogram(
      'enforcement_order_seconds',
      'Cause of a change to its order written',
      none,
      [...fast, 10, 60],
    ),
    confirmSeconds: metrics.histogram(
      'enforcement_confirm_seconds',
      'Order written to acknowledgement',
      none,
      slow,
    ),
    addressesExhausted: metrics.counter(
      'node_addresses_exhausted_total',
      'Devices that found no free address',
      none,
    ),
    secretsUnopened: metrics.counter('secrets_unopened_total', 'Stored secrets that did not open', none),
    nodes: metrics.gauge('nodes', 'Nodes by age of their last heartbeat', livenessLabels),
    taskRuns: metrics.counter('scheduler_task_runs_total', 'Runs of periodic tasks', taskLabels),
    tenantFailures: metrics.counter(
      'scheduler_tenant_failures_total',
      'Tenants for which a periodic task failed while it went on with the others',
      tenantTaskLabels,
    ),
    usageSaturated: metrics.counter(
      'usage_saturated_total',
      'Rows of usage that stand at 2^63 - 1 bytes because more cannot be written down',
      saturatedLabels,
    ),
    partitionsCreated: metrics.counter('partitions_created_total', 'Day partitions made', none),
    eventsWaiting: metrics.gauge(
      'events_waiting_seconds',
      'For how long the oldest event waits for a transaction that has not ended',
      none,
    ),
    webhookDeliveries: metrics.counter(
      'webhook_deliveries_total',
      'Attempts to tell a webhook of an event',
      deliveryLabels,
    ),
  };
}
