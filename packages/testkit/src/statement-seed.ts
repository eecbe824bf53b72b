// A closed statement as the scheduler leaves it, signed with a key of the test: the active one, or a retired one where
// there is an active one already.
import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import type { createClient } from '@penstock/db/pool';
import { newId } from '@penstock/domain/ids';
import { headerText, lineText, STATEMENT_FORMAT, type StatementHeader } from '@penstock/domain/statement';

type Client = Pick<ReturnType<typeof createClient>, 'query'>;

const keys = generateKeyPairSync('ed25519');
const keyId = newId();
/** SPKI DER. */
export const statementKey = keys.publicKey.export({ format: 'der', type: 'spki' });
export const statementKeyId: string = keyId;

/** Line i of `lines`: i bytes up, 1 down, i + 1 billable, of a subscription of its own. */
export async function seedStatement(
  client: Client,
  statement: { tenantId: string; month: string; lines: number; previous?: string },
): Promise<StatementHeader> {
  const { tenantId, month, lines, previous = null } = statement;
  const statementId: string = newId();
  const subscriptions = Array.from({ length: lines }, () => newId<never>() as string).sort();
  const hash = createHash('sha256');
  subscriptions.forEach((subscriptionId, i) => {
    const bytes = { upBytes: BigInt(i), downBytes: 1n, billableBytes: BigInt(i) + 1n };
    hash.update(lineText({ month, subscriptionId, engine: 'xray', ...bytes }));
  });
  const up = (lines * (lines - 1)) / 2;
  const header: StatementHeader = {
    ...{ format: STATEMENT_FORMAT, tenantId, statementId, month, timeZone: 'UTC' },
    ...{ closedAt: '2026-10-03T00:00:00.000Z', lines, linesDigest: hash.digest('hex') },
    usage: { upBytes: String(up), downBytes: String(lines), billableBytes: String(up + lines) },
    corrections: { lines: 0, upBytes: '0', downBytes: '0', billableBytes: '0' },
    ...{ previous, keyId },
  };
  const text = headerText(header);
  await client.query(
    `INSERT INTO statement_key (key_id, public_key, private_key, retired_at)
     SELECT $1, $2, 'sealed', (SELECT now() FROM statement_key WHERE retired_at IS NULL)
     ON CONFLICT (key_id) DO NOTHING`,
    [keyId, statementKey],
  );
  await client.query(
    `INSERT INTO statement (tenant_id, statement_id, month, time_zone, lines, up_bytes, down_bytes, billable_bytes, corrections,
                            closed_at, key_id, header, signature, digest)
     VALUES ($1, $2, $3, 'UTC', $4::int, $5, $4::int, $6, 0, $7, $8, $9, $10, $11)`,
    [
      ...[tenantId, statementId, `${month}-01`, lines, up, up + lines, header.closedAt, keyId, text],
      ...[sign(null, Buffer.from(text), keys.privateKey), createHash('sha256').update(text).digest()],
    ],
  );
  await client.query(
    `INSERT INTO statement_line SELECT $1, $2, $3, s, 1, n - 1, 1, n FROM unnest($4::uuid[]) WITH ORDINALITY AS i (s, n)`,
    [tenantId, statementId, `${month}-01`, subscriptions],
  );
  return header;
}
