// Join tokens: made here, used up by the scheduler's Identity service. Only a hash leads from the secret to the row.
import type { NodeId } from '@penstock/domain/ids';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';

const insertRow = statement(
  'join_token.insert',
  `INSERT INTO join_token (tenant_id, join_token_id, node_id, expires_at, created_by, created_at)
   VALUES ($1, $2, $3, $4, $5, $6)`,
);
const insertRoute = statement(
  'join_token.insert_route',
  `INSERT INTO credential_route (hash, tenant_id, kind, id) VALUES ($1, $2, 'join_token', $3)`,
);

export async function insertJoinToken(
  { actor, client, at }: Acting,
  token: { joinTokenId: string; nodeId: NodeId; expiresAt: Date; hash: Buffer },
): Promise<void> {
  const { joinTokenId, nodeId, expiresAt, hash } = token;
  await run(client, insertRow, [actor.tenantId, joinTokenId, nodeId, expiresAt, actor.accountId, at]);
  await run(client, insertRoute, [hash, actor.tenantId, joinTokenId]);
}
