// V36: two things that people take for one are never two. Names that are equal after NFKC, case, spacing and look-alike
// letters are refused, mail addresses too; and nobody comes into a tenant by the domain of his address.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { planTerms, scene, vless, type Scene } from '../../apps/control-api/test/scene.js';
import { signIn, withPassword } from '../../apps/control-api/test/sign-in.js';
import { createWorld, type Answer, type Person, type World } from '../../apps/control-api/test/world.js';

const NAME = 'Harbour Net';
/** Each looks like the name above, or is it for every reader. */
const sameNames = [
  ...['harbour net', 'HARBOUR NET', '  Harbour   Net ', 'Harbour\u00a0Net', 'Ｈａｒｂｏｕｒ Ｎｅｔ'],
  ...[
    'H\u0430rbour Net',
    'Harb\u043eur N\u0435t',
    'Harbour\u200b Net',
    'Har\u00adbour Net',
    'Harbour N\u0435t\u2060',
  ],
  ...['\u041d\u0430rbour N\u0435t', 'Harb\u03bfur Net', '\ud835\udc07arbour Net'],
];
const password = 'a long enough sentence';

describe('V36 identities that collide', () => {
  let world: World;
  let own: Scene;
  let platform: Person;

  beforeAll(async () => {
    world = await createWorld();
    own = await scene(world, await world.person(await world.tenant('own'), 'owner'));
    platform = await world.person(world.platform, 'owner');
  });
  afterAll(() => world.close());

  const post = (path: string, as: Person, body: object): Promise<Answer> =>
    world.ask('POST', `/api/v1/${path}`, { as, body });

  const nouns: [noun: string, make: (name: string) => Promise<Answer>][] = [
    ['tenants', (name) => post('tenants', platform, { name })],
    ['plans', (name) => post('plans', own.admin, { ...planTerms, name, nodeGroupIds: [own.nodeGroupId] })],
    ['node groups', (name) => post('node-groups', own.admin, { name })],
    [
      'nodes',
      (name) =>
        post('nodes', own.admin, {
          ...{ name, address: 'n.example.org', inbounds: [vless], nodeGroupIds: [own.nodeGroupId] },
        }),
    ],
  ];

  test.each(nouns)('%s: a name that is taken for another is refused', async (_noun, create) => {
    expect((await create(NAME)).status).toBe(201);
    for (const name of sameNames) {
      const answer = await create(name);
      // Invisible and control characters may be refused as such.
      expect([400, 409], `${JSON.stringify(name)} ${answer.text}`).toContain(answer.status);
      expect(answer.body['field']).toBe('name');
    }
    expect((await create('Harbour Net 2')).status).toBe(201);
  });

  test('mail addresses: one that looks like another’s makes no second account and is not his', async () => {
    const victim = await withPassword(world, own.admin.tenantId, 'operator');
    await world.sql(
      `UPDATE account SET email = 'paul@example.org', email_key = 'paul@example.org' WHERE account_id = $1`,
      [victim.accountId],
    );
    for (const email of ['PAUL@Example.org', 'paul@example.org ', 'ｐaul@example.org']) {
      const invited = await post('invitations', own.admin, { email, role: 'auditor' });
      // He is a member already.
      expect(invited.body, email).toMatchObject({ status: 409, field: 'email' });
    }
    const lookAlikes = ['p\u0430ul@example.org', 'paul@ex\u0430mple.org'];
    for (const email of lookAlikes) {
      expect([400, 409], email).toContain(
        (await post('invitations', own.admin, { email, role: 'auditor' })).status,
      );
      const answer = await signIn(world, { email, password: victim.password });
      expect([400, 401, 429], email).toContain(answer.status);
    }
    expect(
      await world.sql(`SELECT count(*)::int AS n FROM account WHERE email LIKE '%ul@ex%mple.org'`),
    ).toEqual([{ n: 1 }]);
  });

  test('nobody joins a tenant by the domain of his address', async () => {
    // A person of a company, and another tenant whose people all have addresses of that company.
    const company = await world.tenant('company');
    for (let n = 0; n < 3; n++) {
      const colleague = await world.person(company, 'owner');
      await world.sql(`UPDATE account SET email = $2 WHERE account_id = $1`, [
        ...[colleague.accountId, `c${n}@company.example`],
      ]);
    }
    const invited = await post('invitations', own.admin, { email: 'new@company.example', role: 'auditor' });
    const token = String(invited.body['link']).split('#')[1];
    const joined = await world.ask('POST', '/api/v1/invitations/accept', { body: { token, password } });
    expect(joined.body).toMatchObject({ tenantId: own.admin.tenantId });
    const answer = await signIn(world, { email: 'new@company.example', password });
    expect(answer.body).toMatchObject({ tenantId: own.admin.tenantId });
    const me = await world.ask('GET', '/api/v1/auth/me', { as: answer.accessToken });
    expect(me.body['memberships']).toHaveLength(1);
    const there = await world.ask('POST', '/api/v1/auth/switch', {
      ...{ as: answer.accessToken, body: { tenantId: company } },
    });
    expect(there.body).toMatchObject({ status: 404 });
  });

  test('an invitation is for its own address and its own tenant', async () => {
    const stranger = await world.person(await world.tenant('stranger'), 'owner');
    const invited = await post('invitations', own.admin, { email: 'meant@example.org', role: 'admin' });
    const token = String(invited.body['link']).split('#')[1];
    expect((await post('invitations/join', stranger, { token })).body).toMatchObject({ status: 403 });
    const elsewhere = { token, password, tenantId: stranger.tenantId };
    expect((await world.ask('POST', '/api/v1/invitations/accept', { body: elsewhere })).body).toMatchObject({
      ...{ status: 400, field: 'tenantId' },
    });
    const otherMail = { token, password, email: 'other@example.org' };
    expect((await world.ask('POST', '/api/v1/invitations/accept', { body: otherMail })).body).toMatchObject({
      ...{ status: 400, field: 'email' },
    });
    expect(
      await world.sql(`SELECT count(*)::int AS n FROM invitation WHERE accepted_at IS NOT NULL
      AND email = 'meant@example.org'`),
    ).toEqual([{ n: 0 }]);
  });
});
