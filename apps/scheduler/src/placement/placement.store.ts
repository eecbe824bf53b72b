// Which node serves which subscription (assignment), and the devices' addresses on WireGuard nodes (IPAM). Both follow
// from state and are brought in line as sets. A customer's configuration file names his address, so a device that
// comes back to a node gets its old one while nobody else has it.
import { run, statement, type Runner } from '@penstock/db/statement';
import type { NodeId } from '@penstock/domain/ids';
import type { Keys } from '../quota/quota.store.js';

/** A released address goes to another device after this time at the earliest: late packets and usage are the old one's. */
export const ADDRESS_REUSE_AFTER_MS = 3_600_000;

export interface AssignmentKey {
  tenantId: string;
  nodeId: NodeId;
  subscriptionId: string;
}

const beginAndEnd = statement(
  'placement.write_assignments',
  `WITH begun AS (
     INSERT INTO assignment AS a (tenant_id, node_id, subscription_id, assigned_at)
     SELECT i.tenant_id, i.node_id, i.subscription_id, statement_timestamp()
     FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS i (tenant_id, node_id, subscription_id)
     ON CONFLICT (tenant_id, node_id, subscription_id) DO UPDATE
       SET ended_at = NULL WHERE a.ended_at IS NOT NULL
   )
   UPDATE assignment a SET ended_at = statement_timestamp()
   FROM unnest($4::uuid[], $5::uuid[], $6::uuid[]) AS i (tenant_id, node_id, subscription_id)
   WHERE a.tenant_id = i.tenant_id AND a.node_id = i.node_id AND a.subscription_id = i.subscription_id
     AND a.ended_at IS NULL`,
);

/** Begins and ends assignments. Rows stay as tombstones, so late usage still finds who was served. */
export async function writeAssignments(
  db: Runner,
  begin: readonly AssignmentKey[],
  end: readonly AssignmentKey[],
): Promise<void> {
  await run(db, beginAndEnd, [
    begin.map((a) => a.tenantId),
    begin.map((a) => a.nodeId),
    begin.map((a) => a.subscriptionId),
    end.map((a) => a.tenantId),
    end.map((a) => a.nodeId),
    end.map((a) => a.subscriptionId),
  ]);
}

// One allocator a node at a time; nodes in order, after the subscriptions' locks.
const lockNodes = statement(
  'placement.lock_nodes',
  `SELECT pg_advisory_xact_lock(hashtextextended('address ' || n.node_id, 0))
   FROM (SELECT DISTINCT a.node_id
         FROM unnest($1::uuid[], $2::uuid[]) AS k (tenant_id, subscription_id)
         JOIN assignment a ON a.tenant_id = k.tenant_id AND a.subscription_id = k.subscription_id
         ORDER BY a.node_id OFFSET 0) n`,
);

// A device keeps an address that lies in the node's subnets as they are now. The first host of each is the node's own.
/** SQL over a row `x` of node_address. */
export const KEPT_ADDRESS = `EXISTS (
  SELECT FROM inbound i CROSS JOIN LATERAL jsonb_array_elements_text(i.settings -> 'subnets') AS e (subnet)
  WHERE i.node_id = x.node_id AND i.engine = 'wireguard' AND x.address << e.subnet::cidr
    AND x.address <> host(network(e.subnet::cidr))::inet + 1)`;

const releaseAddresses = statement(
  'placement.release_addresses',
  `UPDATE node_address x SET released_at = statement_timestamp()
   FROM unnest($1::uuid[], $2::uuid[]) AS k (tenant_id, subscription_id)
   JOIN subscription s ON s.tenant_id = k.tenant_id AND s.subscription_id = k.subscription_id
   JOIN device d ON d.tenant_id = s.tenant_id AND d.subscription_id = s.subscription_id
   JOIN assignment a ON a.tenant_id = s.tenant_id AND a.subscription_id = s.subscription_id
   WHERE x.node_id = a.node_id AND x.device_id = d.device_id AND x.released_at IS NULL
     AND (d.removed_at IS NOT NULL OR a.ended_at IS NOT NULL OR NOT 'wireguard' = ANY (s.engines) OR NOT ${KEPT_ADDRESS})`,
);

// Devices that should have an address on a node and have none.
const WANTING = `
  SELECT a.node_id, d.device_id
  FROM unnest($1::uuid[], $2::uuid[]) AS k (tenant_id, subscription_id)
  JOIN subscription s ON s.tenant_id = k.tenant_id AND s.subscription_id = k.subscription_id
  JOIN assignment a ON a.tenant_id = s.tenant_id AND a.subscription_id = s.subscription_id AND a.ended_at IS NULL
  JOIN device d ON d.tenant_id = s.tenant_id AND d.subscription_id = s.subscription_id AND d.removed_at IS NULL
  WHERE 'wireguard' = ANY (s.engines)
    AND EXISTS (SELECT FROM inbound i WHERE i.node_id = a.node_id AND i.engine = 'wireguard')
    AND NOT EXISTS (SELECT FROM node_address x
                    WHERE x.node_id = a.node_id AND x.device_id = d.device_id AND x.released_at IS NULL)`;

const retakeAddresses = statement(
  'placement.retake_addresses',
  `UPDATE node_address x SET released_at = NULL
   FROM (SELECT DISTINCT ON (w.node_id, w.device_id) o.node_id, o.address
         FROM (${WANTING}) w
         JOIN (SELECT x.* FROM node_address x WHERE ${KEPT_ADDRESS}) o ON o.node_id = w.node_id AND o.device_id = w.device_id
         ORDER BY w.node_id, w.device_id, o.released_at DESC) back
   WHERE x.node_id = back.node_id AND x.address = back.address`,
);

// Never used addresses first, in order; then those released longest ago. The subnet's first host is the node's own.
// A subnet larger than 2^24 hosts is used up to there, which keeps the arithmetic inside a bigint.
const allocateAddresses = statement<{ nodeId: NodeId; wanted: bigint; given: bigint }>(
  'placement.allocate_addresses',
  `WITH wanting AS (
     SELECT w.node_id, w.device_id, row_number() OVER (PARTITION BY w.node_id ORDER BY w.device_id) AS nth
     FROM (${WANTING}) w
   ), need AS (
     SELECT node_id, count(*) AS n FROM wanting GROUP BY node_id
   ), pool AS (
     SELECT n.node_id, n.n, e.ordinality, e.subnet::cidr AS subnet, host(network(e.subnet::cidr))::inet + 1 AS own,
            CASE WHEN family(e.subnet::cidr) = 6 AND masklen(e.subnet::cidr) < 104
                   THEN host(network(e.subnet::cidr))::inet + 16777216
                 WHEN family(e.subnet::cidr) = 6 THEN host(broadcast(e.subnet::cidr))::inet
                 ELSE host(broadcast(e.subnet::cidr))::inet - 1 END AS last
     FROM need n
     JOIN inbound i ON i.node_id = n.node_id AND i.engine = 'wireguard'
     CROSS JOIN LATERAL jsonb_array_elements_text(i.settings -> 'subnets') WITH ORDINALITY AS e (subnet, ordinality)
   ), candidate AS (
     SELECT p.node_id, c.address,
            row_number() OVER (PARTITION BY p.node_id ORDER BY c.used, c.released_at, p.ordinality, c.address) AS nth
     FROM pool p
     CROSS JOIN LATERAL (
       SELECT false AS used, NULL::timestamptz AS released_at, top.address + g AS address
       FROM (SELECT greatest(p.own, max(x.address)) AS address FROM node_address x
             WHERE x.node_id = p.node_id AND x.address << p.subnet) top
       CROSS JOIN LATERAL generate_series(1, least(p.n, p.last - top.address)) AS g
       UNION ALL
       (SELECT true, x.released_at, x.address FROM node_address x
        WHERE x.node_id = p.node_id AND x.address << p.subnet
          AND x.released_at < statement_timestamp() - $3::bigint * interval '1 ms'
        ORDER BY x.released_at LIMIT p.n)) c
   ), given AS (
     INSERT INTO node_address AS o (node_id, address, device_id)
     SELECT w.node_id, c.address, w.device_id FROM wanting w JOIN candidate c ON c.node_id = w.node_id AND c.nth = w.nth
     ON CONFLICT (node_id, address) DO UPDATE SET device_id = excluded.device_id, released_at = NULL
       WHERE o.released_at IS NOT NULL
     RETURNING o.node_id
   )
   SELECT n.node_id AS "nodeId", n.n AS wanted, (SELECT count(*) FROM given g WHERE g.node_id = n.node_id) AS given
   FROM need n`,
);

/** Brings the devices' addresses in line with the assignments. Returns how many devices found no free address. */
export async function alignAddresses(db: Runner, keys: Keys): Promise<number> {
  const values = [keys.tenantIds, keys.subscriptionIds];
  await run(db, lockNodes, values);
  await run(db, releaseAddresses, values);
  await run(db, retakeAddresses, values);
  const rows = await run(db, allocateAddresses, [...values, ADDRESS_REUSE_AFTER_MS]);
  return rows.reduce((without, row) => without + Number(row.wanted - row.given), 0);
}
