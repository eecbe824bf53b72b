// V14: no secret travels in an address. Links carry theirs in the fragment, which no browser sends; no route takes one
// in its path or query; no answer redirects with one; whatever shows a secret says that it must not be kept.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { declarationOf } from '../../apps/control-api/src/http/require.decorator.js';
import { RouteTable } from '../../apps/control-api/src/http/routes.js';
import { setUpApp } from '../../apps/control-api/test/authenticator-app.js';
import { signIn, withPassword } from '../../apps/control-api/test/sign-in.js';
import { scene } from '../../apps/control-api/test/scene.js';
import { createWorld, type Answer, type Person, type World } from '../../apps/control-api/test/world.js';

/** Names of query and path parameters that would be credentials. */
const SECRET_NAME = /token|secret|password|passwd|api_?key|credential|^key$|authorization|session$/i;
/** What an identity provider sends back: a code that is good once, with the verifier in our cookie. */
const FROM_PROVIDER = new Set(['code', 'state']);

describe('V14 secrets in addresses', () => {
  let world: World;
  let owner: Person;

  beforeAll(async () => {
    world = await createWorld({ env: { PUBLIC_URL: 'https://vpn.example.org' } });
    owner = await world.person(await world.tenant('one'), 'owner');
  });
  afterAll(() => world.close());

  test('no route takes a secret in its path or query', () => {
    const { routes } = world.app.get(RouteTable);
    expect(routes.length).toBeGreaterThan(20);
    const wrong = routes.flatMap((route) => {
      const shape = (route.query as unknown as { shape?: Record<string, unknown> } | undefined)?.shape ?? {};
      const named = [...route.params.map(({ name }) => name), ...Object.keys(shape)];
      return named
        .filter((name) => SECRET_NAME.test(name) && !/Id$/.test(name) && !FROM_PROVIDER.has(name))
        .map((name) => `${route.method} ${route.path} ${name}`);
    });
    expect(wrong).toEqual([]);
  });

  test('what shows a secret once says so, and every answer says that it must not be kept', async () => {
    const { routes } = world.app.get(RouteTable);
    expect(routes.filter(({ declaration }) => declaration.secret).length).toBeGreaterThanOrEqual(4);
    expect(declarationOf(class {})).toBeUndefined();
    const own = await scene(world, owner);
    const person = await withPassword(world, owner.tenantId, 'operator');
    const session = await signIn(world, person);
    const app = await setUpApp(world, session.accessToken, person.password);
    const link = await world.ask('POST', `/api/v1/members/${person.accountId}/password-reset`, {
      ...{ as: owner, body: {} },
    });
    const answers: Answer[] = [
      session,
      link,
      await world.ask('POST', `/api/v1/nodes/${own.nodeId}/join-tokens`, { as: owner, body: {} }),
      await world.ask('POST', '/api/v1/invitations', {
        as: owner,
        body: { email: 'new@example.org', role: 'operator' },
      }),
      await world.ask('GET', `/api/v1/subscriptions/${own.subscriptionId}/access`, { as: owner }),
      await world.ask('POST', '/api/v1/auth/refresh', { body: { refreshToken: session.refreshToken } }),
      await world.ask('GET', '/api/v1/nothing-here'),
      await world.ask('GET', '/setup'),
    ];
    for (const answer of answers) {
      expect(answer.headers.get('cache-control'), answer.text).toBe('no-store');
      expect(answer.headers.get('location')).toBeNull();
      expect(answer.headers.get('referrer-policy')).toBe('no-referrer');
      expect(answer.headers.get('set-cookie')).toBeNull();
    }
    // Links: the secret stands behind the #.
    const links = answers.flatMap(
      (answer) => answer.text.match(/https:\/\/vpn\.example\.org\/[^"\s]*/g) ?? [],
    );
    const withSecret = links.filter((each) => /[A-Za-z0-9_-]{22}/.test(each));
    expect(withSecret.length).toBeGreaterThanOrEqual(2);
    for (const each of withSecret) {
      const { pathname, search, hash } = new URL(each);
      expect(`${pathname}${search}`).not.toMatch(/[A-Za-z0-9_-]{22}/);
      expect(hash).toMatch(/^#[A-Za-z0-9_.-]{22,}$/);
    }
    // Nor in what we write down of requests.
    const logged = JSON.stringify(world.lines);
    for (const secret of [
      ...[person.password, session.accessToken, session.refreshToken, app.secret, ...app.recoveryCodes],
      ...[String(link.body['link']).split('#')[1] ?? '', owner.token],
    ]) {
      expect(logged).not.toContain(secret);
    }
  });

  test('a secret that somebody puts into an address is neither taken nor logged', async () => {
    const secret = 'prl1.0123456789abcdefghijklmnopqrstuvwxyzABCDEFG';
    for (const path of [`/api/v1/plans?token=${secret}`, `/api/v1/nowhere/${secret}`, `/${secret}`]) {
      const answer = await world.ask('GET', path, { as: owner });
      expect([400, 404]).toContain(answer.status);
      expect(answer.headers.get('location')).toBeNull();
    }
    expect(JSON.stringify(world.lines)).not.toContain(secret);
  });
});
