// Rows that an enrolment needs, inserted as a superuser would: a tenant, its node, a join token and its route.
import { createClient } from '@penstock/db/pool';
import { newId, type NodeId, type TenantId } from '@penstock/domain/ids';
import { formatJoinToken, joinTokenHash, newJoinTokenSecret } from '@penstock/rpc/join-token';

export interface SeededNode {
  tenantId: TenantId;
  nodeId: NodeId;
}

export interface SeededToken {
  joinTokenId: string;
  /** What an operator would paste. */
  text: string;
}

export interface TokenOptions {
  rootFingerprint: string;
  /** host:port of the enrollment edge; the node edge when no other is given. */
  enroll: string;
  nodeEdge?: string;
  expiresAt: Date;
  revokedAt?: Date;
  serverName?: string;
}

async function withClient<T>(
  url: string,
  work: (client: ReturnType<typeof createClient>) => Promise<T>,
): Promise<T> {
  const client = createClient(url, 'penstock-testkit');
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

export function seedNode(superuserUrl: string): Promise<SeededNode> {
  const [tenantId, nodeId] = [newId<TenantId>(), newId<NodeId>()];
  return withClient(superuserUrl, async (client) => {
    await client.query(`INSERT INTO tenant (tenant_id, name, kind) VALUES ($1, 'test', 'customer')`, [
      tenantId,
    ]);
    await client.query(
      `INSERT INTO node (node_id, owner_tenant_id, name, address) VALUES ($1, $2, 'test', '127.0.0.1')`,
      [nodeId, tenantId],
    );
    return { tenantId, nodeId };
  });
}

export function seedJoinToken(
  superuserUrl: string,
  { tenantId, nodeId }: SeededNode,
  options: TokenOptions,
): Promise<SeededToken> {
  const [joinTokenId, secret]: [string, Buffer] = [newId(), newJoinTokenSecret()];
  const text = formatJoinToken({
    secret,
    rootFingerprint: options.rootFingerprint,
    enroll: options.enroll,
    enforcement: options.nodeEdge ?? options.enroll,
    usage: options.nodeEdge ?? options.enroll,
    ...(options.serverName === undefined ? {} : { serverName: options.serverName }),
  });
  return withClient(superuserUrl, async (client) => {
    await client.query(
      `INSERT INTO join_token (tenant_id, join_token_id, node_id, expires_at, revoked_at) VALUES ($1, $2, $3, $4, $5)`,
      [tenantId, joinTokenId, nodeId, options.expiresAt, options.revokedAt ?? null],
    );
    await client.query(
      `INSERT INTO credential_route (hash, tenant_id, kind, id) VALUES ($1, $2, 'join_token', $3)`,
      [joinTokenHash(secret), tenantId, joinTokenId],
    );
    return { joinTokenId, text };
  });
}
