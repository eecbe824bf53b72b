// Certificates and what a join token leads to. Single use of a token is the unique key of certificate.join_token_id.
// Every write first locks the node's row (lockNode), so enrolment, renewal and revocation of a node are one after the
// other and nothing is issued to a node that is being revoked.
import type { Client } from '@penstock/db/pool';
import { run, statement, type Runner } from '@penstock/db/statement';
import { newId, type NodeId } from '@penstock/domain/ids';
import { REVOKED_CHANNEL, type CertificateRecord } from '@penstock/rpc/revocation';
import type { IssuedCertificate } from './ca.js';

export type NodeState = 'active' | 'drain' | 'maintenance' | 'revoked';

export interface StoredCertificate extends CertificateRecord {
  serial: Buffer;
  nodeId: NodeId;
  der: Buffer;
  notAfter: Date;
  issuedAt: Date;
}

export interface StoredJoinToken {
  tenantId: string;
  joinTokenId: string;
  nodeId: NodeId;
  expiresAt: Date;
  revokedAt: Date | null;
  nodeState: NodeState;
}

const tokenOfHash = statement<StoredJoinToken>(
  'identity.token_of_hash',
  `SELECT t.tenant_id AS "tenantId", t.join_token_id AS "joinTokenId", t.node_id AS "nodeId",
          t.expires_at AS "expiresAt", t.revoked_at AS "revokedAt", n.state AS "nodeState"
     FROM credential_route r
     JOIN join_token t ON t.tenant_id = r.tenant_id AND t.join_token_id = r.id
     JOIN node n ON n.node_id = t.node_id
    WHERE r.hash = $1 AND r.kind = 'join_token'`,
);

export async function findJoinToken(db: Runner, hash: Buffer): Promise<StoredJoinToken | undefined> {
  return (await run(db, tokenOfHash, [hash]))[0];
}

const certificateOfToken = statement<StoredCertificate>(
  'identity.certificate_of_token',
  `SELECT serial, node_id AS "nodeId", public_key_hash AS "publicKeyHash", der, not_after AS "notAfter",
          issued_at AS "issuedAt", revoked_at AS "revokedAt"
     FROM certificate WHERE join_token_id = $1`,
);

export async function findCertificateOfToken(
  db: Runner,
  joinTokenId: string,
): Promise<StoredCertificate | undefined> {
  return (await run(db, certificateOfToken, [joinTokenId]))[0];
}

const certificateOfSerial = statement<StoredCertificate>(
  'identity.certificate_of_serial',
  `SELECT serial, node_id AS "nodeId", public_key_hash AS "publicKeyHash", der, not_after AS "notAfter",
          issued_at AS "issuedAt", revoked_at AS "revokedAt"
     FROM certificate WHERE serial = $1`,
);

export async function findCertificate(db: Runner, serial: Buffer): Promise<StoredCertificate | undefined> {
  return (await run(db, certificateOfSerial, [serial]))[0];
}

const newestOfNode = statement<StoredCertificate>(
  'identity.newest_of_node',
  `SELECT serial, node_id AS "nodeId", public_key_hash AS "publicKeyHash", der, not_after AS "notAfter",
          issued_at AS "issuedAt", revoked_at AS "revokedAt"
     FROM certificate WHERE node_id = $1 ORDER BY issued_at DESC, not_after DESC LIMIT 1`,
);

export async function findNewestCertificate(
  db: Runner,
  nodeId: NodeId,
): Promise<StoredCertificate | undefined> {
  return (await run(db, newestOfNode, [nodeId]))[0];
}

const lockNodeRow = statement<{ state: NodeState }>(
  'identity.lock_node',
  'SELECT state FROM node WHERE node_id = $1 FOR NO KEY UPDATE',
);

export async function lockNode(db: Client, nodeId: NodeId): Promise<NodeState | undefined> {
  return (await run(db, lockNodeRow, [nodeId]))[0]?.state;
}

// The token's own validity is asked in the statement that uses it, not in one before.
const insertForToken = statement<{ serial: Buffer }>(
  'identity.insert_for_token',
  `INSERT INTO certificate (serial, node_id, join_token_id, public_key_hash, der, not_before, not_after, issued_at)
   SELECT $1, t.node_id, t.join_token_id, $2, $3, $4, $5, $6::timestamptz
     FROM join_token t
    WHERE t.tenant_id = $7 AND t.join_token_id = $8 AND t.revoked_at IS NULL AND t.expires_at > $6::timestamptz
   ON CONFLICT (join_token_id) DO NOTHING
   RETURNING serial`,
);

/** False when the token was used, revoked or expired meanwhile. */
export async function insertEnrolled(
  db: Client,
  token: StoredJoinToken,
  issued: IssuedCertificate,
  now: Date,
): Promise<boolean> {
  const { serial, publicKeyHash, der, notBefore, notAfter } = issued;
  const values = [serial, publicKeyHash, der, notBefore, notAfter, now, token.tenantId, token.joinTokenId];
  return (await run(db, insertForToken, values)).length === 1;
}

const insertFollowing = statement<{ serial: Buffer }>(
  'identity.insert_following',
  `INSERT INTO certificate (serial, node_id, public_key_hash, der, not_before, not_after, issued_at)
   VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING serial`,
);

export async function insertRenewed(
  db: Client,
  nodeId: NodeId,
  issued: IssuedCertificate,
  now: Date,
): Promise<void> {
  const { serial, publicKeyHash, der, notBefore, notAfter } = issued;
  await run(db, insertFollowing, [serial, nodeId, publicKeyHash, der, notBefore, notAfter, now]);
}

// One request a node; an approval is for the key that it was given for, and no other key takes its place while it is good.
const askReattest = statement<{ approved: boolean }>(
  'identity.ask_reattest',
  `INSERT INTO reattest_request AS r (node_id, public_key_hash, expired_at, asked_at, address)
   VALUES ($1, $2, $3, $4, $5)
   ON CONFLICT (node_id) DO UPDATE SET public_key_hash = excluded.public_key_hash, expired_at = excluded.expired_at,
     asked_at = excluded.asked_at, address = excluded.address,
     approved_at = CASE WHEN r.public_key_hash = excluded.public_key_hash THEN r.approved_at END,
     approved_by = CASE WHEN r.public_key_hash = excluded.public_key_hash THEN r.approved_by END
   WHERE r.public_key_hash = excluded.public_key_hash OR r.approved_at IS NULL OR r.approved_at <= $6
   RETURNING coalesce(r.approved_at > $6, false) AS approved`,
);

export interface ReattestAsk {
  nodeId: NodeId;
  publicKeyHash: Buffer;
  expiredAt: Date;
  /** Of the node, as far as the edge knows it. */
  address: string;
  now: Date;
  /** An approval from before this is too old. */
  approvedAfter: Date;
}

/** Notes that the node asks for a certificate for this key; true when an admin has approved this very key. */
export async function isReattestApproved(db: Client, ask: ReattestAsk): Promise<boolean> {
  const { nodeId, publicKeyHash, expiredAt, now, address, approvedAfter } = ask;
  const values = [nodeId, publicKeyHash, expiredAt, now, address, approvedAfter];
  return (await run(db, askReattest, values))[0]?.approved === true;
}

const endReattest = statement('identity.end_reattest', 'DELETE FROM reattest_request WHERE node_id = $1');

export async function deleteReattestRequest(db: Client, nodeId: NodeId): Promise<void> {
  await run(db, endReattest, [nodeId]);
}

const revokeCertificates = statement<{ serial: Buffer }>(
  'identity.revoke_certificates',
  `UPDATE certificate SET revoked_at = $2, revoke_reason = $3
    WHERE node_id = $1 AND revoked_at IS NULL RETURNING serial`,
);
const revokeNodeRow = statement<Record<string, never>>(
  'identity.revoke_node',
  `UPDATE node SET state = 'revoked', version = version + 1 WHERE node_id = $1 AND state <> 'revoked'`,
);
const notifyRevoked = statement<Record<string, unknown>>(
  'identity.notify_revoked',
  'SELECT pg_notify($1, $2)',
);

// Its customers are served elsewhere or nowhere: whatever may change access leaves a row in its own transaction.
const insertNodeChange = statement(
  'identity.node_change',
  `INSERT INTO access_change (tenant_id, change_id, node_id, cause)
   SELECT coalesce(n.owner_tenant_id, p.tenant_id), $2, n.node_id, 'node' FROM node n, platform p WHERE n.node_id = $1`,
);

/** Revokes all certificates, marks the node and tells every process, all at the commit. Returns how many. */
export async function revokeAll(db: Client, nodeId: NodeId, reason: string, now: Date): Promise<number> {
  const revoked = await run(db, revokeCertificates, [nodeId, now, reason]);
  await run(db, revokeNodeRow, [nodeId]);
  await run(db, endReattest, [nodeId]);
  await run(db, insertNodeChange, [nodeId, newId()]);
  await run(db, notifyRevoked, [REVOKED_CHANNEL, nodeId]);
  return revoked.length;
}

const revokedAmong = statement<{ serial: Buffer }>(
  'identity.revoked_among',
  'SELECT serial FROM certificate WHERE serial = ANY ($1::bytea[]) AND revoked_at IS NOT NULL',
);

/** Which of these serials are revoked; for watchRevocations (packages/rpc/src/revocation.ts). */
export async function findRevoked(db: Runner, serials: Buffer[]): Promise<Buffer[]> {
  return (await run(db, revokedAmong, [serials])).map(({ serial }) => serial);
}
