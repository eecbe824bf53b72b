// Generated requests against every route, from the schemas' own examples with hostile values in the place of fields, path
// and query parameters and headers: each is answered, none by a 5xx. The run is seeded; a failure names its request.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { controllers } from '../../apps/control-api/src/app.module.js';
import { jsonSchema } from '../../apps/control-api/src/http/openapi-components.js';
import { routesOf, type Route } from '../../apps/control-api/src/http/routes.js';
import { idsOf, request, type Ids } from '../../apps/control-api/test/attacks.js';
import { scene } from '../../apps/control-api/test/scene.js';
import { createWorld, type Person, type World } from '../../apps/control-api/test/world.js';

const CASES = process.env['PENSTOCK_TEST_FULL'] === '1' ? 1_000_000 : 100_000;
const AT_ONCE = 32;
const SEED = 20_260_101;

const hostile: readonly unknown[] = [
  ...[
    null,
    true,
    '',
    ' ',
    '\u0000',
    '\ud800',
    '\u202e',
    '%00',
    '../../etc/passwd',
    '__proto__',
    'constructor',
  ],
  ...[
    "' OR 1=1 --",
    '"; DROP TABLE plan; --',
    '1) UNION SELECT 1--',
    '$1',
    '\\',
    '%',
    '_',
    '{{7*7}}',
    '${7*7}',
  ],
  ...[
    '<script>alert(1)</script>',
    'javascript:alert(1)',
    '\r\nx-injected: 1',
    'a'.repeat(10_000),
    '𝕏'.repeat(300),
  ],
  ...[
    -1,
    0,
    1,
    0.5,
    2 ** 31,
    2 ** 53,
    -(2 ** 63),
    1e308,
    '9223372036854775808',
    '-1',
    '1e400',
    'NaN',
    'Infinity',
  ],
  ...[[], [[]], {}, { a: { b: { c: {} } } }, Array.from({ length: 300 }, () => 'x'), { toString: 1 }],
  ...['0001-01-01T00:00:00Z', '9999-12-31T23:59:59.999Z', '+275760-09-13T00:00:00Z', '2026-02-30T00:00:00Z'],
  ...[
    '00000000-0000-0000-0000-000000000000',
    'ffffffff-ffff-ffff-ffff-ffffffffffff',
    '::1',
    '0.0.0.0/0',
    'xn--a',
  ],
];

/** A small seeded generator (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface Case {
  method: string;
  url: string;
  headers: Record<string, string>;
  payload: string | undefined;
}

class Generator {
  readonly #next: () => number;

  constructor(
    seed: number,
    private readonly routes: readonly Route[],
  ) {
    this.#next = random(seed);
  }

  make(ids: Ids, person: Person): Case {
    const route = this.#one(this.routes);
    const { method, path, body } = request(route, ids, ids);
    let url = path;
    // A path parameter, or the query, is somebody's idea of an attack in one case of four each.
    if (route.params.length > 0 && this.#next() < 0.25) {
      const parts = url.split('/');
      parts[parts.length - 1 - Math.floor(this.#next() * 2)] = encodeURIComponent(this.#text());
      url = parts.join('/');
    }
    if (this.#next() < 0.25 || (route.query !== undefined && this.#next() < 0.5)) {
      url += `${url.includes('?') ? '&' : '?'}${this.#name(route)}=${encodeURIComponent(this.#text())}`;
    }
    return {
      ...{ method, url, headers: this.#headers(person, body !== undefined) },
      payload: body === undefined ? undefined : this.#body(body),
    };
  }

  #one<T>(list: readonly T[]): T {
    return list[Math.floor(this.#next() * list.length)] as T;
  }

  #text(): string {
    const value = this.#one(hostile);
    const text = typeof value === 'string' ? value : JSON.stringify(value);
    return text.isWellFormed() ? text : 'lone';
  }

  #name(route: Route): string {
    const { properties = {} } =
      route.query === undefined ? {} : (jsonSchema(route.query) as { properties?: object });
    return this.#one([...Object.keys(properties), 'unknown', 'limit', '__proto__']);
  }

  #headers(person: Person, hasBody: boolean): Record<string, string> {
    const at = this.#next();
    return {
      ...(at < 0.03 ? {} : { authorization: at < 0.06 ? 'Bearer x.y.z' : `Bearer ${person.token}` }),
      ...(hasBody ? { 'content-type': at > 0.98 ? 'application/json x' : 'application/json' } : {}),
      ...(this.#next() < 0.1 ? { 'idempotency-key': `k${Math.floor(this.#next() * 50)}` } : {}),
      ...(this.#next() < 0.1
        ? { 'if-match': this.#one(['"1"', '*', '"-1"', 'W/"1"', '"9999999999999999999"', '']) }
        : {}),
      ...(this.#next() < 0.05 ? { 'x-request-id': 'not a uuid' } : {}),
    };
  }

  /** The example with one to three of its fields replaced, left out or added; sometimes no JSON at all. */
  #body(example: object): string {
    const at = this.#next();
    if (at < 0.02) return this.#one(['{', '[]', 'null', '"x"', '1e999', '{"a":1,"a":2}', '']);
    const copy = structuredClone(example) as Record<string, unknown>;
    for (let changes = 1 + Math.floor(this.#next() * 3); changes > 0; changes--) this.#change(copy);
    return JSON.stringify(copy);
  }

  #change(object: Record<string, unknown>): void {
    const names = Object.keys(object);
    const name = this.#next() < 0.1 || names.length === 0 ? 'added' : this.#one(names);
    const inner = object[name];
    if (typeof inner === 'object' && inner !== null && this.#next() < 0.5) {
      return this.#change(inner as Record<string, unknown>);
    }
    if (this.#next() < 0.1) delete object[name];
    else object[name] = structuredClone(this.#one(hostile));
  }
}

describe('hostile requests on every route [G11, R2-10, R3-19]', () => {
  let world: World;
  let ids: Ids;
  let person: Person;

  beforeAll(async () => {
    world = await createWorld({ env: { RATE_LIMIT_FACTOR: '10000', LOG_LEVEL: 'error' } });
    await renew();
  });
  afterAll(() => world.close());

  /** A tenant with one of everything: the last one's owner signed himself out, or deleted what there was. */
  async function renew(): Promise<void> {
    const made = await scene(world, await world.person(await world.tenant(), 'owner'));
    [ids, person] = [idsOf(made), made.admin];
  }

  test(
    `${CASES} generated requests: no 5xx, and nothing that the log calls a failure`,
    async () => {
      const routes = routesOf(controllers).filter(
        // Endless answers; and the scene's identity provider is a row whose sealed secret is none.
        (route) => route.declaration.contentType !== 'text/event-stream' && !route.path.endsWith('/start'),
      );
      const generator = new Generator(SEED, routes);
      const app = world.app.getHttpAdapter().getInstance();
      const statuses = new Map<number, number>();
      /** One request for each noun and method that failed. */
      const failed = new Map<string, string>();
      const started = performance.now();
      for (let done = 0; done < CASES; done += AT_ONCE) {
        const cases = Array.from({ length: AT_ONCE }, () => generator.make(ids, person));
        const answers = await Promise.all(
          cases.map(({ payload, method, ...rest }) =>
            app.inject({
              ...rest,
              method: method as 'GET',
              remoteAddress: `127.${(done >> 13) & 255}.${(done >> 5) & 255}.1`,
              ...(payload === undefined ? {} : { payload }),
            }),
          ),
        );
        for (const [index, answer] of answers.entries()) {
          statuses.set(answer.statusCode, (statuses.get(answer.statusCode) ?? 0) + 1);
          // 503 with a delay: a full queue of sign-ins, or the scheduler that is not there.
          const refusal = answer.statusCode === 503 && answer.body.includes('"code":"unavailable"');
          const told = `${JSON.stringify(cases[index]).slice(0, 1_000)} ${answer.body.slice(0, 500)}`;
          const route = `${cases[index]?.method} ${answer.statusCode} ${cases[index]?.url.split('/')[3]}`;
          if (answer.statusCode >= 500 && !refusal) failed.set(route, told);
        }
        if (
          done % (AT_ONCE * 64) === 0 ||
          answers.filter(({ statusCode }) => statusCode === 401).length > 8
        ) {
          await renew();
        }
      }
      const seconds = (performance.now() - started) / 1_000;
      const table = [...statuses].sort(([a], [b]) => a - b).map(([status, count]) => `${status}: ${count}`);
      process.stdout.write(`openapi fuzz: ${CASES} in ${seconds.toFixed(1)} s, ${table.join(', ')}\n`);
      expect([...failed.values()]).toEqual([]);
      expect(world.lines.filter((line) => line['msg'] === 'request failed')).toEqual([]);
      expect(statuses.get(200) ?? 0).toBeGreaterThan(CASES / 100);
    },
    30 * 60_000,
  );
});
