// Verifies a stack's whole ledger from SQL: numbering, links, digests, signatures, and Σ deltas = cumulative of every
// meter. The keys are the certificates that the database holds; nothing of the running processes is asked.
import { X509Certificate } from 'node:crypto';
import { expect } from 'vitest';
import { verifyFrames, type StreamReport } from '@penstock/ledger/verify';
import { storedFrames } from '../../apps/cli/src/ledger.store.js';
import type { World } from './world.js';

/** One report a node; fails when a chain is broken anywhere. */
export async function verifyLedger(world: World): Promise<StreamReport[]> {
  const { rows } = await world.sql.query<{ serial: Buffer; der: Buffer }>(
    'SELECT serial, der FROM certificate',
  );
  const keys = new Map(
    rows.map(({ serial, der }) => [serial.toString('hex'), new X509Certificate(der).publicKey]),
  );
  const reports = await verifyFrames(storedFrames(world.sql), {
    publicKey: (serial) => keys.get(serial.toString('hex')) ?? null,
  });
  expect(reports.map((report) => report.problem)).toEqual(reports.map(() => null));
  return reports;
}
