// IdentityService and SchedulerAdminService on the wire: who may call what on which edge, limits, counting, the log.
// The rules are in identity.service.ts.
import type { Pool } from '@penstock/db/pool';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import { parseId, type NodeId } from '@penstock/domain/ids';
import type { AllowTable } from '@penstock/rpc/guard';
import { unary } from '@penstock/rpc/handlers';
import type { NodePeer } from '@penstock/rpc/identity';
import { requireGoodStanding } from '@penstock/rpc/revocation';
import type {
  EnrollRequest,
  EnrollResponse,
  IdentityServiceServer,
  ReattestRequest,
  ReattestResponse,
  RenewRequest,
  RenewResponse,
} from '@penstock/rpc/gen/penstock/identity/v1/identity';
import { IdentityServiceService } from '@penstock/rpc/gen/penstock/identity/v1/identity';
import type {
  RevokeNodeRequest,
  RevokeNodeResponse,
  SchedulerAdminServiceServer,
} from '@penstock/rpc/gen/penstock/scheduler_admin/v1/scheduler_admin';
import { SchedulerAdminServiceService } from '@penstock/rpc/gen/penstock/scheduler_admin/v1/scheduler_admin';
import type { Logger } from '@penstock/service/logger';
import type { Metrics } from '@penstock/service/metrics';
import { AddressLimit, ENROLL_LIMIT, type LimitRule } from './address-limit.js';
import type { Ca } from './ca.js';
import { enroll, reattest, renew, revokeNode } from './identity.service.js';
import { findCertificate } from './identity.store.js';

export interface IdentityDeps {
  pool: Pool;
  ca: Ca;
  clock: Clock;
  log: Logger;
  metrics: Metrics;
  /** Policy of re-attestation; REATTEST_AUTOMATIC_MS when absent. */
  reattestAutomaticMs?: number;
  /** Tries of one address at the enrollment edge; ENROLL_LIMIT when absent. */
  enrollLimit?: LimitRule;
}

export interface AdminDeps extends Omit<IdentityDeps, 'metrics'> {
  /** Ends what the node has open in this process; others hear of it by REVOKED_CHANNEL. */
  onRevoked(nodeId: NodeId): void;
}

/** Who may call these services on which edge. */
export const identityAllow = {
  nodeEdge: {
    [IdentityServiceService.enroll.path]: [],
    [IdentityServiceService.reattest.path]: [],
    [IdentityServiceService.renew.path]: ['node'],
  },
  enrollmentEdge: {
    [IdentityServiceService.enroll.path]: ['anyone'],
    [IdentityServiceService.reattest.path]: ['anyone'],
    [IdentityServiceService.renew.path]: [],
  },
  admin: { [SchedulerAdminServiceService.revokeNode.path]: ['control-api'] },
} as const satisfies Record<string, AllowTable>;

const REASON_CHARACTERS_MAX = 200;
const kinds = ['enrolled', 'enrolled_again', 'renewed', 'reattested'] as const;

export function identityService(deps: IdentityDeps): IdentityServiceServer {
  const { log, clock } = deps;
  const limit = new AddressLimit(deps.enrollLimit ?? ENROLL_LIMIT, clock);
  const issued = deps.metrics.counter(
    'penstock_identity_certificates_total',
    'Certificates given to nodes.',
    {
      kind: kinds,
    },
  );
  const requireRoom = (address: string): void => {
    const retryAfterMs = limit.take(address);
    if (retryAfterMs > 0)
      throw new AppError('rate_limited', 'too many tries from this address', { retryAfterMs });
  };
  return {
    enroll: unary<EnrollRequest, EnrollResponse>(async ({ joinToken, csr }, { address, requestId }) => {
      requireRoom(address);
      const { nodeId, chain, fresh } = await enroll(deps, joinToken, csr);
      issued.inc({ kind: fresh ? 'enrolled' : 'enrolled_again' });
      log.info({ nodeId, requestId, peerAddr: address, kind: fresh ? 'new' : 'again' }, 'node enrolled');
      return { nodeId, certificates: chain, trustRoot: deps.ca.trustRoot };
    }),
    reattest: unary<ReattestRequest, ReattestResponse>(
      async ({ certificate, csr, proof }, { address, requestId }) => {
        requireRoom(address);
        const { nodeId, chain } = await reattest(deps, certificate, csr, proof, address);
        if (chain === null) {
          log.warn({ nodeId, requestId, peerAddr: address }, 'a node waits for an admin to approve it again');
          return { certificates: [], pending: true };
        }
        issued.inc({ kind: 'reattested' });
        log.info({ nodeId, requestId, peerAddr: address }, 'node attested again');
        return { certificates: chain, pending: false };
      },
    ),
    renew: unary<RenewRequest, RenewResponse>(async ({ csr }, { peer, requestId }) => {
      if (peer.kind !== 'node') throw new AppError('forbidden', 'only a node renews its certificate');
      const certificates = await renew(deps, peer, csr);
      issued.inc({ kind: 'renewed' });
      log.info({ nodeId: peer.nodeId, requestId }, 'certificate renewed');
      return { certificates };
    }),
  };
}

export function schedulerAdminService(deps: AdminDeps): SchedulerAdminServiceServer {
  return {
    revokeNode: unary<RevokeNodeRequest, RevokeNodeResponse>(async (request, { requestId }) => {
      const nodeId = parseId<NodeId>(request.nodeId, 'node_id');
      if (request.reason.length > REASON_CHARACTERS_MAX) {
        throw new AppError('invalid_input', `reason has at most ${REASON_CHARACTERS_MAX} characters`, {
          field: 'reason',
        });
      }
      const count = await revokeNode(deps, nodeId, request.reason);
      deps.onRevoked(nodeId);
      deps.log.warn({ nodeId, requestId, count }, 'node revoked');
      return { certificatesRevoked: count };
    }),
  };
}

/** The `admit` of a node edge: every call of a node needs a certificate in good standing. One look-up by key. */
export function admitNode(pool: Pool): (peer: NodePeer) => Promise<void> {
  return async (peer) => requireGoodStanding(peer, await findCertificate(pool, peer.serial));
}
