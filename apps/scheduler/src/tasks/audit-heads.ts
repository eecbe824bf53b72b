// Keeps the end of each tenant's audit chain every hour, in the database and in a file beside it. A chain proves that
// nothing in it was changed; only a head that was kept elsewhere proves that nothing was cut off its end
// (`penstock audit verify --head`). The file comes first, so whatever the table knows the file knows too.
import { open, rename, stat } from 'node:fs/promises';
import { run, statement } from '@penstock/db/statement';
import type { Clock } from '@penstock/domain/clock';
import type { Task } from './driver.js';

export const AUDIT_HEADS_INTERVAL_MS = 3_600_000;
/** A file that is larger makes place for the next; the one before stays as `.old`. */
const FILE_BYTES_MAX = 64 * 1024 * 1024;

interface Head {
  tenantId: string;
  seq: bigint;
  hash: string;
}

const selectMoved = statement<Head>(
  'audit_head.moved',
  `SELECT t.tenant_id AS "tenantId", l.seq, encode(l.hash, 'hex') AS hash
   FROM tenant t
   CROSS JOIN LATERAL (
     SELECT a.seq, a.hash FROM audit_log a WHERE a.tenant_id = t.tenant_id ORDER BY a.seq DESC LIMIT 1) l
   WHERE NOT EXISTS (SELECT FROM audit_head h WHERE h.tenant_id = t.tenant_id AND h.seq >= l.seq)
   ORDER BY t.tenant_id`,
);

const insertHeads = statement(
  'audit_head.insert',
  `INSERT INTO audit_head (tenant_id, seq, hash, exported_at)
   SELECT tenant_id, seq, decode(hash, 'hex'), $4
   FROM unnest($1::uuid[], $2::bigint[], $3::text[]) AS h (tenant_id, seq, hash)
   ON CONFLICT (tenant_id, seq) DO NOTHING`,
);

/** `file`: one JSON object a line, added to; undefined: the table alone. */
export function auditHeads(clock: Clock, file: string | undefined): Task {
  return {
    name: 'audit-heads',
    intervalMs: AUDIT_HEADS_INTERVAL_MS,
    async run(db) {
      const heads = await run(db, selectMoved);
      if (heads.length === 0) return;
      const at = new Date(clock.now());
      if (file !== undefined) await append(file, heads, at);
      await run(db, insertHeads, [
        heads.map((head) => head.tenantId),
        heads.map((head) => head.seq.toString()),
        heads.map((head) => head.hash),
        at,
      ]);
    },
  };
}

async function append(file: string, heads: readonly Head[], at: Date): Promise<void> {
  const size = await stat(file).then(
    (found) => found.size,
    () => 0,
  );
  if (size > FILE_BYTES_MAX) await rename(file, `${file}.old`);
  const text = heads
    .map(({ tenantId, seq, hash }) => JSON.stringify({ tenantId, seq: seq.toString(), hash, at }))
    .join('\n');
  const handle = await open(file, 'a', 0o600);
  try {
    await handle.appendFile(`${text}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
}
