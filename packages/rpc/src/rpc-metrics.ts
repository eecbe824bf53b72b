// What a gRPC server counts. Made once a process: several servers share the same series.
import { errorCodes, type ErrorCode } from '@penstock/domain/errors';
import type { CounterMetric, Metrics } from '@penstock/service/metrics';
import { certificateProblems, type CertificateProblem } from './identity.js';

/** Why a connection was ended before any call. */
export type RefusalReason = CertificateProblem | 'handshake' | 'too_many';

const refusalReasons: readonly RefusalReason[] = [...certificateProblems, 'handshake', 'too_many'];
const codes = Object.keys(errorCodes) as ErrorCode[];

export interface RpcMetrics {
  failures: CounterMetric<{ code: readonly ErrorCode[] }>;
  refusals: CounterMetric<{ reason: readonly RefusalReason[] }>;
}

const made = new WeakMap<Metrics, RpcMetrics>();

export function rpcMetrics(metrics: Metrics): RpcMetrics {
  let known = made.get(metrics);
  if (known === undefined) {
    known = {
      failures: metrics.counter('penstock_rpc_failures_total', 'Calls that ended with an error, by code.', {
        code: codes,
      }),
      refusals: metrics.counter('penstock_rpc_refused_connections_total', 'Connections refused, by reason.', {
        reason: refusalReasons,
      }),
    };
    made.set(metrics, known);
  }
  return known;
}
