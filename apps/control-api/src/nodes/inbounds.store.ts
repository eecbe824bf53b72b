// Inbounds of nodes. Their secrets are written here and never selected; the scheduler alone reads them.
import type { NodeId } from '@penstock/domain/ids';
import type { Engine } from '@penstock/domain/terms';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';

export interface InboundRow {
  nodeId: NodeId;
  tag: string;
  engine: Engine;
  port: number;
  settings: Record<string, unknown>;
}

const insertInboundRows = statement(
  'inbound.insert',
  `INSERT INTO inbound (node_id, tag, engine, port, settings, secret)
   SELECT $1, i.tag, i.engine, i.port, i.settings::jsonb, i.secret
     FROM unnest($2::text[], $3::text[], $4::integer[], $5::text[], $6::bytea[]) AS i (tag, engine, port, settings, secret)`,
);

export interface NewInboundRow extends Omit<InboundRow, 'nodeId'> {
  /** Sealed; null when the inbound has none. */
  secret: Buffer | null;
}

export async function insertInbounds(
  { client }: Acting,
  nodeId: NodeId,
  rows: NewInboundRow[],
): Promise<void> {
  await run(client, insertInboundRows, [
    nodeId,
    rows.map((row) => row.tag),
    rows.map((row) => row.engine),
    rows.map((row) => row.port),
    rows.map((row) => JSON.stringify(row.settings)),
    rows.map((row) => row.secret),
  ]);
}

const updateInboundRows = statement(
  'inbound.update',
  `UPDATE inbound SET port = i.port, settings = i.settings::jsonb
     FROM unnest($2::text[], $3::integer[], $4::text[]) AS i (tag, port, settings)
    WHERE inbound.node_id = $1 AND inbound.tag = i.tag`,
);

/** Their keys stay as they are. */
export async function updateInbounds(
  { client }: Acting,
  nodeId: NodeId,
  rows: Omit<InboundRow, 'nodeId'>[],
): Promise<void> {
  if (rows.length === 0) return;
  await run(client, updateInboundRows, [
    nodeId,
    rows.map((row) => row.tag),
    rows.map((row) => row.port),
    rows.map((row) => JSON.stringify(row.settings)),
  ]);
}

const deleteInboundRows = statement(
  'inbound.delete',
  'DELETE FROM inbound WHERE node_id = $1 AND tag = ANY ($2::text[])',
);

export async function deleteInbounds({ client }: Acting, nodeId: NodeId, tags: string[]): Promise<void> {
  if (tags.length > 0) await run(client, deleteInboundRows, [nodeId, tags]);
}

const releaseKey = statement('inbound.release_key', 'DELETE FROM device_key WHERE device_id = $1');

/** The node's WireGuard key is gone with its inbound: it is nobody's any more. */
export async function releaseNodeKey({ client }: Acting, nodeId: NodeId): Promise<void> {
  await run(client, releaseKey, [nodeId]);
}

const selectInbounds = statement<InboundRow>(
  'inbound.of_nodes',
  `SELECT i.node_id AS "nodeId", i.tag, i.engine, i.port, i.settings
     FROM inbound i WHERE i.node_id = ANY ($1::uuid[]) ORDER BY i.node_id, i.tag`,
);

/** Inbounds of nodes that the actor has just read. */
export function listInbounds({ client }: Acting, nodeIds: NodeId[]): Promise<InboundRow[]> {
  return run(client, selectInbounds, [nodeIds]);
}
