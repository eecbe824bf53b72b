// Join tokens: made here, used up by the scheduler's Identity service. Only a hash leads from the secret to the row.
import type { NodeId } from '@penstock/domain/ids';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';

export interface ListedJoinToken {
  joinTokenId: string;
  createdAt: Date;
  expiresAt: Date;
  usedAt: Date | null;
  revokedAt: Date | null;
}

/** Tokens live for an hour at most; older ones are of interest to auditors, who have the audit log. */
const LISTED_MAX = 100;

const selectRows = statement<ListedJoinToken>(
  'join_token.of_node',
  `SELECT t.join_token_id AS "joinTokenId", t.created_at AS "createdAt", t.expires_at AS "expiresAt",
          t.revoked_at AS "revokedAt", c.issued_at AS "usedAt"
     FROM join_token t LEFT JOIN certificate c ON c.join_token_id = t.join_token_id
    WHERE t.tenant_id = $1 AND t.node_id = $2 ORDER BY t.join_token_id DESC LIMIT $3`,
);

/** The newest first. */
export function listJoinTokens({ actor, client }: Acting, nodeId: NodeId): Promise<ListedJoinToken[]> {
  return run(client, selectRows, [actor.tenantId, nodeId, LISTED_MAX]);
}

const selectRow = statement<ListedJoinToken>(
  'join_token.get',
  `SELECT t.join_token_id AS "joinTokenId", t.created_at AS "createdAt", t.expires_at AS "expiresAt",
          t.revoked_at AS "revokedAt", c.issued_at AS "usedAt"
     FROM join_token t LEFT JOIN certificate c ON c.join_token_id = t.join_token_id
    WHERE t.tenant_id = $1 AND t.node_id = $2 AND t.join_token_id = $3`,
);

export async function findJoinToken(
  { actor, client }: Acting,
  nodeId: NodeId,
  joinTokenId: string,
): Promise<ListedJoinToken | null> {
  return (await run(client, selectRow, [actor.tenantId, nodeId, joinTokenId]))[0] ?? null;
}

const revokeRow = statement(
  'join_token.revoke',
  `UPDATE join_token SET revoked_at = $3 WHERE tenant_id = $1 AND join_token_id = $2 AND revoked_at IS NULL`,
);

/** Whoever enrolls at the same moment is first or refused: the scheduler asks in the statement that uses the token. */
export async function revokeJoinToken({ actor, client, at }: Acting, joinTokenId: string): Promise<void> {
  await run(client, revokeRow, [actor.tenantId, joinTokenId, at]);
}

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
