// Figures over all nodes and subscriptions, for the gauges: how many nodes are alive, how many subscriptions have
// access, how much waits. Counts only; nothing is decided here. Every process shows the last figures it counted.
import { run, statement } from '@penstock/db/statement';
import { countChanges } from '../changes/change.store.js';
import { liveness, livenessStates } from '../heartbeat/liveness.js';
import type { SchedulerMetrics } from '../metrics.js';
import type { Task } from './driver.js';

export const LIVENESS_INTERVAL_MS = 10_000;

const listAges = statement<{ ageMs: number | null }>(
  'liveness.ages',
  `SELECT (extract(epoch FROM statement_timestamp() - s.heartbeat_at) * 1000)::float8 AS "ageMs"
   FROM node n LEFT JOIN node_status s ON s.node_id = n.node_id
   WHERE n.state IN ('active', 'drain')`,
);

const countActive = statement<{ count: bigint }>(
  'liveness.active_subscriptions',
  `SELECT count(*) AS count FROM subscription_state WHERE effective_state IN ('active', 'on_hold')`,
);

export function nodeLiveness(metrics: SchedulerMetrics, heartbeatMs: number): Task {
  return {
    name: 'node-liveness',
    intervalMs: LIVENESS_INTERVAL_MS,
    async run(db) {
      const counts = { online: 0, late: 0, offline: 0 };
      for (const { ageMs } of await run(db, listAges)) counts[liveness(ageMs, heartbeatMs)]++;
      for (const state of livenessStates) metrics.nodes.set({ state }, counts[state]);
      const [active] = await run(db, countActive);
      metrics.activeSubscriptions.set({}, Number(active?.count ?? 0n));
      metrics.queueDepth.set({ queue: 'access_change' }, await countChanges(db));
    },
  };
}
