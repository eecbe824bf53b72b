// The one thing that control-api asks of the scheduler directly: revocation, which must take hold within seconds.
// Everything else goes through tables.
import { Injectable } from '@nestjs/common';
import type { NodeId } from '@penstock/domain/ids';
import { callUnary, connect } from '@penstock/rpc/client';
import { SchedulerAdminServiceClient } from '@penstock/rpc/gen/penstock/scheduler_admin/v1/scheduler_admin';
import { Context } from '../context.js';
import { keyedTransaction } from '../idempotency/keyed-transaction.js';

const DEADLINE_MS = 2_000;

@Injectable()
export class SchedulerClient {
  readonly #client: SchedulerAdminServiceClient;

  constructor(context: Context) {
    const { SCHEDULER_ADDRESS, TLS_CERT_FILE, TLS_KEY_FILE, TLS_ROOT_FILE, TRUST_DOMAIN } = context.config;
    this.#client = connect(SchedulerAdminServiceClient, SCHEDULER_ADDRESS, {
      tls: { certFile: TLS_CERT_FILE, keyFile: TLS_KEY_FILE, rootFile: TLS_ROOT_FILE },
      trustDomain: TRUST_DOMAIN,
      servers: ['scheduler'],
      log: context.log,
    });
  }

  /** How many certificates were revoked. Throws AppError: unavailable when the scheduler does not answer. */
  async revokeNode(nodeId: NodeId, reason: string): Promise<number> {
    // The scheduler would wait for what this request has locked, and other requests for what this one holds.
    if (keyedTransaction() !== undefined) throw new Error('the scheduler is asked inside a transaction');
    const request = { nodeId, reason };
    const answer = await callUnary(this.#client, this.#client.revokeNode, request, {
      deadlineMs: DEADLINE_MS,
    });
    return answer.certificatesRevoked;
  }

  close(): void {
    this.#client.close();
  }
}
