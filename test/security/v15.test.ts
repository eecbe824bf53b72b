// V15: whose an object is, is asked by every route. Another tenant's object is answered like one that is nobody's: the
// same status, headers and words, after the same statements in the same order, so that no clock tells them apart either;
// and nothing has changed. The requests are made from the router, so a new route is tried by itself.
import type { PoolClient } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { controllers } from '../../apps/control-api/src/app.module.js';
import { routesOf, type Route } from '../../apps/control-api/src/http/routes.js';
import { permissions } from '../../apps/control-api/src/permissions.js';
import {
  absentIds,
  attacks,
  fingerprint,
  idsOf,
  type Attack,
  type Ids,
} from '../../apps/control-api/test/attacks.js';
import { scene, type Scene } from '../../apps/control-api/test/scene.js';
import { withPassword } from '../../apps/control-api/test/sign-in.js';
import { ABSENT, createWorld, type World } from '../../apps/control-api/test/world.js';

let world: World;
let own: Scene;
let other: Scene;
let victim: Ids;
/** Statements as they are sent, by name. */
let sent: string[] = [];

/** Notes the name of each statement on every connection of the pool. */
function listenTo(pool: World['context']['pool']): void {
  const connect = pool.connect.bind(pool) as () => Promise<PoolClient>;
  const heard = new WeakSet<PoolClient>();
  pool.connect = (async (): Promise<PoolClient> => {
    const client = await connect();
    if (heard.has(client)) return client;
    heard.add(client);
    const query = client.query.bind(client) as (...args: unknown[]) => unknown;
    client.query = ((...args: unknown[]): unknown => {
      const first = args[0] as { name?: string } | string;
      sent.push(typeof first === 'string' ? first : (first.name ?? ''));
      return query(...args);
    }) as PoolClient['query'];
    return client;
  }) as typeof pool.connect;
}

beforeAll(async () => {
  world = await createWorld();
  // Some routes ask for the password first, as the requests' examples have it; then for the object.
  own = await scene(
    world,
    await withPassword(world, await world.tenant('own'), 'owner', 'correct horse battery'),
  );
  other = await scene(world, await world.person(await world.tenant('other'), 'owner'));
  victim = idsOf(other);
  listenTo(world.context.pool);
});
afterAll(() => world.close());

const TRIES = 5;

const inPathOrBody = ({ aimed }: Attack): boolean => aimed.some((place) => !place.startsWith('query.'));

/** Any name has an id: only the places count here. */
const anyIds: Ids = new Proxy<Record<string, string>>({}, { get: () => ABSENT });

function isSame([a, b]: [Seen, Seen]): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

/** For the platform only: a customer's owner is refused before anything is looked at. */
const isPlatforms = ({ declaration: { access } }: Route): boolean =>
  access !== 'public' && access !== 'self' && 'platform' in permissions[access];

const routes = routesOf(controllers).filter(
  (route) =>
    route.declaration.access !== 'public' &&
    route.declaration.contentType !== 'text/event-stream' &&
    !isPlatforms(route) &&
    attacks(route, anyIds, anyIds).some(inPathOrBody),
);

interface Seen {
  status: number;
  words: object;
  headers: string[];
  statements: string[];
}

async function see({ method, path, body }: Attack): Promise<Seen> {
  sent = [];
  const answer = await world.ask(method, path, { as: own.admin, ...(body === undefined ? {} : { body }) });
  const words = Object.fromEntries(
    Object.entries(answer.body as Record<string, unknown>).filter(([name]) => name !== 'request_id'),
  );
  return { status: answer.status, words, headers: [...answer.headers.keys()].sort(), statements: sent };
}

describe('V15 ownership', () => {
  test.each(routes.map((route): [string, Route] => [`${route.method} ${route.path}`, route]))(
    '%s: another tenant’s object is answered as nobody’s is, by the same statements, and nothing changed',
    async (_name, route) => {
      const before = await fingerprint(world, victim);
      const mine = idsOf(own);
      const foreign = attacks(route, mine, victim);
      for (const [index, nobodys] of attacks(route, mine, absentIds(victim)).entries()) {
        const attack = foreign[index];
        if (attack === undefined || !inPathOrBody(attack)) continue;
        // What is known of the one who asks is read again each second, between two requests at times.
        let pair: [Seen, Seen] | undefined;
        for (let i = 0; i < TRIES && (pair === undefined || !isSame(pair)); i++) {
          pair = [await see(nobodys), await see(attack)];
        }
        const [absent, theirs] = pair ?? [undefined, undefined];
        expect(theirs, attack.aimed.join(' ')).toEqual(absent);
        expect(theirs?.status, attack.aimed.join(' ')).not.toBe(403);
        expect(theirs?.status, attack.aimed.join(' ')).toBeGreaterThanOrEqual(400);
      }
      expect(await fingerprint(world, victim)).toBe(before);
    },
  );

  test('nobody makes a join token for another’s node, revokes one, or takes the node into his group', async () => {
    const before = await fingerprint(world, victim);
    const ask = (method: string, path: string, body?: object): Promise<{ body: object }> =>
      world.ask(method, path, { as: own.admin, ...(body === undefined ? {} : { body }) });
    const node = `/api/v1/nodes/${other.nodeId}`;
    for (const [method, path, body] of [
      ['POST', `${node}/join-tokens`, {}],
      ['GET', `${node}/join-tokens`],
      ['DELETE', `${node}/join-tokens/${other.joinTokenId}`],
      ['DELETE', `/api/v1/nodes/${own.nodeId}/join-tokens/${other.joinTokenId}`],
      ['POST', `/api/v1/node-groups/${own.nodeGroupId}/nodes`, { nodeId: other.nodeId }],
      ['POST', `${node}/reattest/approve`, { keyFingerprint: '5e'.repeat(32) }],
      ['POST', `${node}/stream/release`],
      ['POST', `${node}/revoke`, { reason: 'mine now' }],
      ['GET', `${node}/status`],
    ] as const) {
      expect((await ask(method, path, body)).body, `${method} ${path}`).toMatchObject({ status: 404 });
    }
    expect(await fingerprint(world, victim)).toBe(before);
  });

  test('nobody has a key of another tenant, sees one, ends one or gives one more than he may', async () => {
    const before = await fingerprint(world, victim);
    const list = await world.ask('GET', '/api/v1/api-keys', { as: own.admin });
    expect(list.text).not.toContain(other.keyId);
    for (const method of ['GET', 'DELETE']) {
      const answer = await world.ask(method, `/api/v1/api-keys/${other.keyId}`, { as: own.admin });
      expect(answer.body, method).toMatchObject({ status: 404 });
    }
    const body = { name: 'theirs', scopes: ['node.read'], tenantId: other.admin.tenantId };
    expect((await world.ask('POST', '/api/v1/api-keys', { as: own.admin, body })).body).toMatchObject({
      ...{ status: 400, field: 'tenantId' },
    });
    expect(await fingerprint(world, victim)).toBe(before);
  });
});
