// The scheduler's side of revocation on the real wire: gRPC over mTLS, and it wants the node's row, as the real one does.
import { createServer, type RpcServer } from '@penstock/rpc/server';
import { unary } from '@penstock/rpc/handlers';
import {
  SchedulerAdminServiceService,
  type RevokeNodeRequest,
  type RevokeNodeResponse,
} from '@penstock/rpc/gen/penstock/scheduler_admin/v1/scheduler_admin';
import { createMetrics } from '@penstock/service/metrics';
import type { World } from './world.js';

/** Listens where the world's control-api looks for it (SCHEDULER_ADDRESS); `asked` is told of each request. */
export async function startScheduler(
  world: World,
  port: number,
  asked: Pick<RevokeNodeRequest[], 'push'>,
): Promise<RpcServer> {
  const { tls } = await world.trust.service('scheduler');
  const server = createServer({
    ...{ tls, trustDomain: world.trust.trustDomain, log: world.context.log, metrics: createMetrics() },
    clientCertificates: 'required',
    allow: { [SchedulerAdminServiceService.revokeNode.path]: ['control-api'] },
    services: [
      [
        SchedulerAdminServiceService,
        {
          revokeNode: unary<RevokeNodeRequest, RevokeNodeResponse>(async (request) => {
            asked.push(request);
            // It waits for whoever has the node.
            await world.sql(`UPDATE node SET state = 'revoked' WHERE node_id = $1`, [request.nodeId]);
            return { certificatesRevoked: 2 };
          }),
        },
      ],
    ],
  });
  await server.listen('127.0.0.1', port);
  return server;
}
