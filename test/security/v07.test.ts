// V07: a fresh installation lets nobody in. There is no account, no fixed id and no fixed key, and none of a thousand
// common pairs of name and password signs in, before the first owner is made and after.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { withPassword } from '../../apps/control-api/test/sign-in.js';
import { createWorld, type Answer, type World } from '../../apps/control-api/test/world.js';

const PAIRS = 1_000;
/** So many are judged to the end, each from an address of its own, where no limit is met. */
const JUDGED = 60;
const names = [
  'admin',
  'root',
  'administrator',
  'owner',
  'user',
  'test',
  'demo',
  'support',
  'penstock',
  'vpn',
];
const words = [
  ...[
    'admin',
    'password',
    'changeme',
    'letmein',
    'welcome',
    'qwerty',
    '123456',
    '12345678',
    'iloveyou',
    'dragon',
  ],
  ...['root', 'toor', 'default', 'secret', 'guest', 'master', 'monkey', 'sunshine', 'princess', 'penstock'],
];
const tails = ['', '1', '123', '!', '2026'];

/** Each word and tail for each name: 20 × 5 × 10. */
const pairs = words.flatMap((word) =>
  tails.flatMap((tail) =>
    names.map((name) => ({ email: `${name}@example.org`, password: `${word}${tail}` })),
  ),
);

describe('V07 default accounts', () => {
  let world: World;
  let other: World;

  beforeAll(async () => {
    world = await createWorld({ env: { TRUSTED_PROXIES: '127.0.0.1/32' } });
    other = await createWorld();
  });
  afterAll(async () => {
    await world.close();
    await other.close();
  });

  const signIn = (pair: object, from?: string): Promise<Answer> =>
    world.ask('POST', '/api/v1/auth/sign-in', {
      body: pair,
      headers: from === undefined ? {} : { 'x-forwarded-for': from },
    });

  test('a fresh installation has no account, no member, no session and no key', async () => {
    for (const table of ['account', 'member', 'session', 'api_key', 'credential_route', 'plan', 'node']) {
      expect(await world.sql(`SELECT count(*)::int AS n FROM ${table}`), table).toEqual([{ n: 0 }]);
    }
  });

  test('two installations share no id and no key', async () => {
    const fixed = async (one: World): Promise<string[]> => {
      const [row] = await one.sql<{ text: string }>(
        `SELECT string_agg(t, ' ') AS text FROM (SELECT to_jsonb(x)::text AS t FROM tenant x
           UNION ALL SELECT to_jsonb(k)::text FROM signing_key k
           UNION ALL SELECT to_jsonb(l)::text FROM setup_link l) all_rows`,
      );
      // Ids, key ids, coordinates and sealed keys: everything long enough to be a secret or a name of one.
      return row?.text.match(/[0-9a-f]{8}-[0-9a-f-]{27}|[A-Za-z0-9_\-+/]{40,}|\\x[0-9a-f]{32,}/g) ?? [];
    };
    const [mine, theirs] = [await fixed(world), await fixed(other)];
    expect(mine.length).toBeGreaterThan(1);
    // The tests give both the same set-up secret; its hash is the only thing alike.
    const shared = mine.filter((text) => theirs.includes(text));
    const [link] = await world.sql<{ hash: string }>('SELECT hash::text FROM setup_link');
    expect(shared.filter((text) => text !== link?.hash)).toEqual([]);
  });

  test(
    '1,000 common pairs: nobody is in, and an address that tries them is stopped',
    { timeout: 240_000 },
    async () => {
      expect(pairs).toHaveLength(PAIRS);
      const statuses: Record<number, number> = {};
      for (let n = 0; n < PAIRS; n += 10) {
        const answers = await Promise.all(
          pairs
            .slice(n, n + 10)
            .map((pair, i) => signIn(pair, n + i < JUDGED ? `192.0.2.${n + i + 1}` : undefined)),
        );
        for (const { status } of answers) statuses[status] = (statuses[status] ?? 0) + 1;
      }
      expect(statuses[200]).toBeUndefined();
      expect(statuses[401]).toBeGreaterThanOrEqual(JUDGED);
      expect(statuses[429]).toBeGreaterThan(PAIRS / 2);
      expect(Object.keys(statuses).every((status) => ['401', '429', '503'].includes(status))).toBe(true);
    },
  );

  test(
    'with an owner called admin the pairs of that name let nobody in either',
    { timeout: 120_000 },
    async () => {
      await withPassword(world, world.platform, 'owner');
      await world.sql(`UPDATE account SET email = 'admin@example.org'`);
      const answers: Answer[] = [];
      for (const [n, pair] of pairs
        .filter(({ email }) => email === 'admin@example.org')
        .slice(0, 20)
        .entries())
        answers.push(await signIn(pair, `198.51.100.${n + 1}`));
      expect(answers.map((answer) => answer.status).filter((status) => ![401, 429].includes(status))).toEqual(
        [],
      );
    },
  );
});
