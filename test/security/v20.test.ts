// V20: a refusal ends the request. Each route that the router has is asked without and with worthless credentials: no
// data comes back and no handler runs. A route without a declared policy stops the start, and what the OpenAPI document
// tells is what the router has.
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AppModule, controllers } from '../../apps/control-api/src/app.module.js';
import { declarationOf } from '../../apps/control-api/src/http/require.decorator.js';
import { RouteTable, type Route } from '../../apps/control-api/src/http/routes.js';
import { createServer } from '../../apps/control-api/src/http/server.js';
import { ABSENT, createWorld, type World } from '../../apps/control-api/test/world.js';

const ran: string[] = [];
const originals: { prototype: Record<string, unknown>; name: string; handler: unknown }[] = [];
let world: World;

/** Puts a spy around each handler, with the declarations that the framework reads from it. */
function spyOnHandlers(): void {
  for (const controller of controllers) {
    const prototype = controller.prototype as Record<string, unknown>;
    for (const name of Object.getOwnPropertyNames(prototype)) {
      const handler = prototype[name];
      if (name === 'constructor' || typeof handler !== 'function') continue;
      const spy = function (this: unknown, ...args: unknown[]): unknown {
        ran.push(`${controller.name}.${name}`);
        return (handler as (...all: unknown[]) => unknown).apply(this, args);
      };
      for (const key of Reflect.getMetadataKeys(handler) as unknown[]) {
        Reflect.defineMetadata(key, Reflect.getMetadata(key, handler), spy);
      }
      originals.push({ prototype, name, handler });
      prototype[name] = spy;
    }
  }
}

beforeAll(async () => {
  spyOnHandlers();
  world = await createWorld();
});
afterAll(async () => {
  await world.close();
  for (const { prototype, name, handler } of originals) prototype[name] = handler;
});

/** Routes as the router itself prints them: `GET /a/:b`. */
function routerRoutes(app: World['app']): string[] {
  const routes: string[] = [];
  const path: string[] = [];
  for (const line of app.getHttpAdapter().getInstance().printRoutes({ commonPrefix: false }).split('\n')) {
    const found = /^((?:│ {3}| {4})*)[├└]── (.*?)(?: \(([A-Z, ]+)\))?$/.exec(line);
    if (found === null) continue;
    const [, indent = '', part = '', methods] = found;
    const depth = indent.length / 4;
    path.length = depth;
    path.push(part);
    for (const method of methods?.split(', ') ?? []) routes.push(`${method} ${path.join('')}`);
  }
  return routes.sort();
}

const nameOf = ({ method, path }: Route): string => `${method} ${path}`;

describe('V20 a refusal ends the request', () => {
  test(
    'no credentials or worthless ones on every route: no data, no handler runs',
    { timeout: 120_000 },
    async () => {
      const routes = world.app.get(RouteTable).routes;
      const guarded = routes.filter(({ declaration }) => declaration.access !== 'public');
      expect(guarded.length).toBeGreaterThan(20);
      const person = await world.person(world.platform, 'owner');
      const unknown = randomBytes(32).toString('base64url');
      const worthless: Record<string, string>[] = [
        {},
        { authorization: '' },
        { authorization: 'Bearer' },
        { authorization: 'Bearer null' },
        { authorization: `Basic ${Buffer.from('owner:owner').toString('base64')}` },
        { authorization: `bearer ${person.token}` },
        { authorization: `Bearer ${person.token},${person.token}` },
        { authorization: `Bearer pak1.${unknown}` },
        { authorization: `Bearer psr1.${unknown}` },
        { cookie: `access_token=${person.token}; token=${person.token}` },
        { 'x-api-key': person.token, 'x-forwarded-user': person.accountId, 'x-tenant-id': world.platform },
      ];
      ran.length = 0;
      for (const { method, path } of guarded) {
        const address = path.replace(/:\w+/g, ABSENT);
        for (const headers of worthless) {
          const answer = await world.ask(method, address, { headers });
          expect(answer.status, `${method} ${path} ${Object.keys(headers).join()}`).toBe(401);
          expect(Object.keys(answer.body).sort()).toEqual([
            ...['code', 'detail', 'request_id', 'status', 'title', 'type'],
          ]);
        }
        const token = encodeURIComponent(person.token);
        expect((await world.ask(method, `${address}?access_token=${token}&token=${token}`)).status).toBe(401);
      }
      expect(ran).toEqual([]);
      // The spy works.
      expect((await world.ask('GET', '/api/v1/auth/me', { as: person })).status).toBe(200);
      expect(ran).toEqual(['AuthController.whoami']);
    },
  );

  test('a handler that declares nothing: no start', async () => {
    const [first] = controllers.filter((controller) => controller.name === 'PlansController');
    const prototype = first?.prototype as Record<string, (...args: unknown[]) => unknown>;
    const declared = prototype['get'];
    const bare = function (): string {
      return 'data';
    };
    for (const key of Reflect.getMetadataKeys(declared as object) as unknown[]) {
      const value: unknown = Reflect.getMetadata(key, declared as object);
      if (value !== declarationOf(declared as object)) Reflect.defineMetadata(key, value, bare);
    }
    prototype['get'] = bare;
    try {
      await expect(async () => createServer(AppModule.with(world.context))).rejects.toThrow(
        'PlansController.get declares no permission',
      );
    } finally {
      prototype['get'] = declared as never;
    }
  });

  test('the OpenAPI document and the router tell the same routes', async () => {
    const { body } = await world.ask('GET', '/api/v1/openapi.json');
    const described = Object.entries(body['paths'] as unknown as Record<string, object>)
      .flatMap(([path, operations]) =>
        Object.keys(operations).map(
          (method) => `${method.toUpperCase()} ${path.replace(/\{(\w+)\}/g, ':$1')}`,
        ),
      )
      .sort();
    const declared = world.app.get(RouteTable).routes.map(nameOf).sort();
    // HEAD is GET without its body.
    const routed = routerRoutes(world.app).filter((route) => !route.startsWith('HEAD '));
    expect(routed.length).toBeGreaterThan(20);
    expect(routed).toEqual(declared);
    expect(described).toEqual(declared);
  });
});
