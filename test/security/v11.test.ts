// V11: a bearer secret that a machine keeps is opaque, has at least 128 random bits, is stored hashed and revoked alone;
// a million tokens that differ from it in little hit nothing.
import { createHash, randomInt } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWorld, type Person, type World } from '../../apps/control-api/test/world.js';

const MUTATIONS = 1_000_000;
const BATCH = 20_000;
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

describe('V11 tokens of integrations', () => {
  let world: World;
  let owner: Person;
  let keys: { keyId: string; key: string }[];

  beforeAll(async () => {
    world = await createWorld({ env: { RATE_LIMIT_FACTOR: '10000' } });
    owner = await world.person(await world.tenant(), 'owner');
    const make = async (name: string): Promise<{ keyId: string; key: string }> => {
      const body = { name, scopes: ['plan.read'] };
      const made = await world.ask('POST', '/api/v1/api-keys', { as: owner, body });
      return { keyId: String(made.body['keyId']), key: String(made.body['key']) };
    };
    keys = [await make('one'), await make('two')];
  });
  afterAll(() => world.close());

  test('have 256 random bits behind a prefix, and no part of one says anything of another', () => {
    const bytes = keys.map(({ key }) => Buffer.from(key.split('.')[1] ?? '', 'base64url'));
    expect(bytes.map(({ length }) => length)).toEqual([32, 32]);
    expect(bytes[0]?.equals(bytes[1] ?? Buffer.alloc(0))).toBe(false);
  });

  test('stand in the database as hashes only', async () => {
    const [row] = await world.sql<{ text: string }>(
      `SELECT string_agg(r::text, ' ') || (SELECT string_agg(k::text, ' ') FROM api_key k) AS text FROM credential_route r`,
    );
    for (const { key } of keys) expect(row?.text).not.toContain(key.split('.')[1]);
    expect(row?.text).toContain(
      createHash('sha256')
        .update(keys[0]?.key ?? '')
        .digest('hex'),
    );
  });

  test(`${MUTATIONS} mutated tokens find no credential`, async () => {
    const original = keys[0]?.key ?? '';
    let found = 0n;
    for (let done = 0; done < MUTATIONS; done += BATCH) {
      const hashes = Array.from({ length: BATCH }, () => {
        const letters = [...original];
        for (let i = randomInt(1, 4); i > 0; i--)
          letters[randomInt(5, letters.length)] = ALPHABET[randomInt(64)] ?? 'A';
        const mutated = letters.join('');
        return mutated === original ? null : createHash('sha256').update(mutated).digest();
      }).filter((hash) => hash !== null);
      const rows = await world.sql<{ count: bigint }>(
        'SELECT count(*) AS count FROM credential_route WHERE hash = ANY($1::bytea[])',
        [hashes],
      );
      found += BigInt(rows[0]?.count ?? 0n);
    }
    expect(found).toBe(0n);
  }, 300_000);

  test('are revoked alone', async () => {
    const [first, second] = keys;
    const ask = (key = ''): Promise<{ status: number }> => world.ask('GET', '/api/v1/plans', { as: key });
    expect([(await ask(first?.key)).status, (await ask(second?.key)).status]).toEqual([200, 200]);
    await world.ask('DELETE', `/api/v1/api-keys/${first?.keyId}`, { as: owner });
    expect([(await ask(first?.key)).status, (await ask(second?.key)).status]).toEqual([401, 200]);
  });
});
