// V04: the cache of verified tokens never gives one person's answer to another: 10,000 pairs of tokens that differ in
// nothing but the person and the tenant, verified all at once, cold and again.
import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import { newId, type AccountId, type TenantId } from '@penstock/domain/ids';
import { AccessTokens } from '../../apps/control-api/src/auth/access-token.js';
import { createWorld, type World } from '../../apps/control-api/test/world.js';

const PAIRS = 10_000;
const AT_ONCE = 500;
// Stands still: every token has the same iat and exp.
let world: World;

beforeAll(async () => {
  world = await createWorld({ clock: new FakeClock(Date.now()) });
});
afterAll(() => world.close());

describe('V04 the cache of verified tokens mixes nobody up', () => {
  test(`${PAIRS} pairs equal in issuer, audience and times: no swap`, { timeout: 180_000 }, async () => {
    const tokens = world.app.get(AccessTokens);
    const familyId = randomUUID();
    let swapped = 0;
    for (let done = 0; done < PAIRS; done += AT_ONCE) {
      const people = await Promise.all(
        Array.from({ length: AT_ONCE * 2 }, async () => {
          const [accountId, tenantId] = [newId<AccountId>(), newId<TenantId>()];
          return { accountId, tenantId, token: await tokens.issue(accountId, tenantId, familyId) };
        }),
      );
      // Twice at once and once more: cold, while it is being verified, and from the cache.
      for (const list of [[...people, ...people], [...people].reverse()]) {
        await Promise.all(
          list.map(async ({ accountId, tenantId, token }) => {
            const claims = await tokens.verify(token);
            if (claims.accountId !== accountId || claims.tenantId !== tenantId) swapped++;
          }),
        );
      }
    }
    expect(swapped).toBe(0);
  });

  test('over HTTP: 40 people in 40 tenants ask at once who they are', async () => {
    const people = await Promise.all(
      Array.from({ length: 40 }, async (_, i) => world.person(await world.tenant(`t${i}`), 'operator')),
    );
    for (let round = 0; round < 5; round++) {
      await Promise.all(
        people.map(async (person) => {
          const { body } = await world.ask('GET', '/api/v1/auth/me', { as: person });
          expect(body).toMatchObject({
            account: { accountId: person.accountId },
            tenant: { tenantId: person.tenantId },
          });
        }),
      );
    }
  });
});
