// V02: a signature is always checked. A token whose claims are right in every way, signed by a key that is not ours,
// is refused by every route that is not public. (Between our processes nobody shows a token: packages/rpc has the
// certificates' corpus.)
import { generateKeyPairSync } from 'node:crypto';
import { decodeJwt, decodeProtectedHeader, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { withLowSignature } from '../../apps/control-api/src/auth/token-text.js';
import { RouteTable } from '../../apps/control-api/src/http/routes.js';
import { ABSENT, createWorld, type World } from '../../apps/control-api/test/world.js';

let world: World;

beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.close());

describe('V02 signatures are checked', () => {
  test('right claims under a random key: 401 on every route that is not public', async () => {
    const { token } = await world.person(world.platform, 'owner');
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const header = { ...decodeProtectedHeader(token), alg: 'ES256' };
    const forged = withLowSignature(
      await new SignJWT(decodeJwt(token)).setProtectedHeader(header).sign(privateKey),
    );
    const guarded = world.app
      .get(RouteTable)
      .routes.filter(({ declaration }) => declaration.access !== 'public');
    expect(guarded.length).toBeGreaterThan(20);
    for (const { method, path } of guarded) {
      const address = path.replace(/:\w+/g, ABSENT);
      const answer = await world.ask(method, address, { as: forged });
      expect([answer.status, answer.body], `${method} ${path}`).toMatchObject([
        401,
        { code: 'unauthenticated' },
      ]);
    }
    expect((await world.ask('GET', '/api/v1/auth/me', { as: token })).status).toBe(200);
  });
});
