// V13: a copy of the database opens nothing. After a whole life of an installation every text, byte and JSON column of
// every table is searched, as a superuser, for every secret that was shown to anybody, in every usual writing. And
// reading never makes a secret.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import { codeAt, setUpApp } from '../../apps/control-api/test/authenticator-app.js';
import { make, scene, type Scene } from '../../apps/control-api/test/scene.js';
import { signIn, withPassword } from '../../apps/control-api/test/sign-in.js';
import { createWorld, SETUP_TOKEN, type Person, type World } from '../../apps/control-api/test/world.js';

const clock = new FakeClock(Date.now());
/** A marker that a secret of ours would have to contain to be found by chance: none is this short. */
const SECRET_MIN = 12;

describe('V13 canaries in the database', () => {
  let world: World;
  let owner: Person;
  let own: Scene;
  /** What was shown, by what it is. */
  const secrets = new Map<string, string>();
  const keep = (name: string, secret: unknown): string => {
    const text = String(secret);
    if (text.length < SECRET_MIN) throw new Error(`${name} is no secret: ${text}`);
    secrets.set(name, text);
    return text;
  };

  beforeAll(async () => {
    world = await createWorld({ clock });
    const setupBody = {
      ...{ token: keep('set-up token', SETUP_TOKEN), email: 'owner@example.org', displayName: 'Owner' },
      password: keep('password of the first owner', 'canary password of the owner'),
    };
    const first = await world.ask('POST', '/api/v1/setup', { body: setupBody });
    expect(first.status).toBe(201);
    keep('access token', first.body['accessToken']);
    keep('refresh token', first.body['refreshToken']);
    owner = await world.person(await world.tenant('one'), 'owner');
    own = await scene(world, owner);
    await secondFactorAndSessions();
    await linksAndKeys();
    await dataPlane();
  }, 120_000);
  afterAll(() => world.close());

  async function secondFactorAndSessions(): Promise<void> {
    const person = await withPassword(world, owner.tenantId, 'operator', 'canary password, a person’s');
    keep('password', person.password);
    const session = await signIn(world, person);
    const app = await setUpApp(world, session.accessToken, person.password);
    keep('authenticator secret', app.secret);
    app.recoveryCodes.forEach((code, i) => keep(`recovery code ${i}`, code));
    clock.advance(30_000);
    const inside = await signIn(world, person, { code: codeAt(app.secret, clock.now()) });
    const { refreshToken } = inside;
    keep('access token of a person', inside.accessToken);
    keep('refresh token, parent', refreshToken);
    const next = await world.ask('POST', '/api/v1/auth/refresh', { body: { refreshToken } });
    keep('refresh token, child', next.body['refreshToken']);
    clock.advance(30_000);
    const changed = await world.ask('POST', '/api/v1/me/password', {
      as: inside.accessToken,
      body: { current: person.password, new: keep('changed password', 'canary password, changed once') },
    });
    expect(changed.status).toBe(204);
    // Typed where a name is asked for.
    await signIn(world, { email: 'canary-password-typed-as-a-name@example.org', password: 'x' });
    keep('a password typed as a name', 'canary-password-typed-as-a-name');
  }

  async function linksAndKeys(): Promise<void> {
    const member = await world.person(owner.tenantId, 'operator');
    const open = await make(world, owner, `/api/v1/members/${member.accountId}/password-reset`, {});
    keep('open reset link', String(open['link']).split('#')[1]);
    const used = await make(world, owner, `/api/v1/members/${member.accountId}/password-reset`, {});
    const token = keep('used reset link', String(used['link']).split('#')[1]);
    const body = { token, password: keep('password set by a link', 'canary password by a link') };
    expect((await world.ask('POST', '/api/v1/auth/reset', { body })).status).toBe(204);
    const invitation = await make(world, owner, '/api/v1/invitations', {
      ...{ email: 'canary@example.org', role: 'operator' },
    });
    keep('invitation', (JSON.stringify(invitation).match(/#([A-Za-z0-9_.-]{22,})/) ?? [])[1]);
    const key = await make(world, owner, '/api/v1/api-keys', {
      ...{ name: 'canary', scopes: ['subscription.read'] },
      expiresAt: new Date(clock.now() + 86_400_000).toISOString(),
    });
    keep('API key', (JSON.stringify(key).match(/pak1\.[A-Za-z0-9_-]{43}/) ?? [])[0]);
    const machine = await make(world, owner, '/api/v1/machine-tokens', {
      ...{
        name: 'canary',
        scopes: ['subscription.read'],
        audience: 'canary',
        pathPrefix: '/api/v1/subscriptions',
      },
      expiresAt: new Date(clock.now() + 86_400_000).toISOString(),
    });
    keep(
      'machine token',
      (JSON.stringify(machine).match(/eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+/) ?? [])[0],
    );
  }

  async function dataPlane(): Promise<void> {
    const join = await make(world, owner, `/api/v1/nodes/${own.nodeId}/join-tokens`, {});
    for (const [name, value] of Object.entries(join)) {
      if (/token/i.test(name) && !/Id$/.test(name)) keep(`join token (${name})`, value);
    }
    await make(world, owner, `/api/v1/subscriptions/${own.subscriptionId}/devices`, { name: 'canary' });
    await world.sql(
      `INSERT INTO node_address (node_id, address, device_id)
       SELECT $1, '10.66.0.10'::inet + row_number() OVER (), device_id FROM device WHERE subscription_id = $2`,
      [own.nodeId, own.subscriptionId],
    );
    const access = await world.ask('GET', `/api/v1/subscriptions/${own.subscriptionId}/access`, {
      as: owner,
    });
    expect(access.status, access.text).toBe(200);
    const shown = [
      ...access.text.matchAll(
        /(?:PrivateKey|PresharedKey) = ([A-Za-z0-9+/=]{44})|vless:\/\/([0-9a-f-]{36})@/g,
      ),
    ].flatMap(([, key, id]) => key ?? id ?? []);
    // A private and a preshared key of each of two devices, and the id.
    expect(new Set(shown).size).toBeGreaterThanOrEqual(5);
    shown.forEach((secret, i) => keep(`customer's credential ${i}`, secret));
  }

  /** A secret as text, and its bytes if the text is base64, base64url, base32 or hexadecimal. */
  function writings(secret: string): Buffer[] {
    const plain = secret.replace(/^[a-z]{3}\d\./, '');
    const bare = plain.replaceAll('-', '');
    const found: Buffer[] = [Buffer.from(secret), Buffer.from(plain), Buffer.from(bare)];
    if (/^[0-9a-f-]{32,}$/i.test(bare)) found.push(Buffer.from(bare, 'hex'));
    if (/^[A-Za-z0-9_+/-]+={0,2}$/.test(plain) && plain.length >= 22)
      found.push(Buffer.from(plain, 'base64'));
    if (/^[A-Z2-7]+$/.test(plain)) found.push(base32(plain));
    // And what each of these looks like when it is written as text once more.
    return found.flatMap((bytes) => [
      bytes,
      ...(['hex', 'base64', 'base64url'] as const).map((coding) =>
        Buffer.from(bytes.toString(coding).replace(/=+$/, '')),
      ),
    ]);
  }

  /** Where in the whole database each of these stands: `what in table.column`. */
  async function search(wanted: ReadonlyMap<string, string>): Promise<{ found: string[]; searched: number }> {
    const columns = await world.sql<{ table: string; column: string; type: string }>(
      `SELECT c.relname AS table, a.attname AS column, t.typname AS type
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         JOIN pg_type t ON t.oid = a.atttypid
        WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND a.attnum > 0
          AND NOT a.attisdropped AND t.typcategory IN ('S', 'U', 'A', 'I')`,
    );
    expect(columns.length).toBeGreaterThan(150);
    const needles = [...wanted].map(([name, secret]) => ({ name, bytes: writings(secret) }));
    const found = new Set<string>();
    let searched = 0;
    for (const { table, column, type } of columns) {
      const value = type === 'bytea' ? `"${column}"` : `convert_to("${column}"::text, 'UTF8')`;
      const rows = await world.sql<{ value: Buffer }>(
        `SELECT ${value} AS value FROM "${table}" WHERE "${column}" IS NOT NULL`,
      );
      searched += rows.length;
      const haystack = Buffer.concat(rows.flatMap((row) => [row.value, Buffer.of(0)]));
      const folded = lower(haystack);
      for (const { name, bytes } of needles) {
        const stands = bytes.some(
          (each) => haystack.includes(each) || (isText(each) && folded.includes(lower(each))),
        );
        if (stands) found.add(`${name} in ${table}.${column}`);
      }
    }
    return { found: [...found].sort(), searched };
  }

  test('no column of any table holds one of them, in any writing', { timeout: 120_000 }, async () => {
    expect(secrets.size).toBeGreaterThanOrEqual(32);
    const { found, searched } = await search(secrets);
    expect(searched).toBeGreaterThan(500);
    expect(found).toEqual([]);
  });

  test('the search finds what is there: as text, as bytes, inside JSON, in another writing', async () => {
    const token = secrets.get('refresh token') ?? '';
    const bytes = Buffer.from(token.slice(5), 'base64url');
    await world.sql('CREATE TABLE canary (a text, b bytea, c jsonb, d text, e text[])');
    await world.sql('INSERT INTO canary VALUES ($1, $2, $3, $4, $5)', [
      ...[
        `x${token}y`,
        bytes,
        JSON.stringify({ kept: [token] }),
        bytes.toString('hex').toUpperCase(),
        [token],
      ],
    ]);
    const { found } = await search(new Map([['it', token]]));
    await world.sql('DROP TABLE canary');
    expect(found).toEqual(['a', 'b', 'c', 'd', 'e'].map((column) => `it in canary.${column}`));
  });

  test(
    'reading makes nothing: all reads, twice, and no row of any table is another',
    { timeout: 60_000 },
    async () => {
      // Reading a customer's access is itself audited, and told to live pages.
      const count = async (): Promise<unknown> =>
        world.sql(
          `SELECT (xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM %I', c.relname), false, true, '')))[1]::text AS n,
                c.relname
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
            AND c.relname NOT IN ('audit_log', 'event') ORDER BY c.relname`,
        );
      const paths = [
        ...['me/sessions', 'me/passkeys', 'me/totp', 'auth/me', 'plans', 'nodes', 'subscriptions', 'members'],
        ...[
          'invitations',
          'api-keys',
          'node-groups',
          `nodes/${own.nodeId}`,
          `subscriptions/${own.subscriptionId}`,
        ],
        ...[`subscriptions/${own.subscriptionId}/devices`, `subscriptions/${own.subscriptionId}/access`],
      ];
      const read = async (): Promise<string[]> =>
        Promise.all(
          paths.map(async (path) => (await world.ask('GET', `/api/v1/${path}`, { as: owner })).text),
        );
      const before = await count();
      const first = await read();
      const second = await read();
      expect(await count()).toEqual(before);
      expect(second).toEqual(first);
      // And what is shown once is not shown again: only the customer's own access is read as often as he needs it.
      const listed = first.filter((_, i) => !paths[i]?.endsWith('/access')).join('\n');
      for (const [name, secret] of secrets) expect(listed.includes(secret), name).toBe(false);
    },
  );
});

const lower = (bytes: Buffer): Buffer => Buffer.from(bytes.toString('latin1').toLowerCase(), 'latin1');
const isText = (bytes: Buffer): boolean => /^[\x20-\x7e]+$/.test(bytes.toString('latin1'));

function base32(text: string): Buffer {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';
  const bits = Array.from(text, (character) => alphabet.indexOf(character).toString(2).padStart(5, '0')).join(
    '',
  );
  return Buffer.from((bits.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)));
}
