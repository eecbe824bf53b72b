// V09: nobody learns from a refused sign-in whether a name exists. A real name with a wrong password, an invented one,
// a disabled account and one that has no password answer alike, wait alike, and cost alike. The cost is proven twice:
// the same statements and one Argon2 of the same parameters are run for each, and over many tries the times of a real
// and an invented name come from one distribution.
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import { HashThread, type HashJob } from '../../apps/control-api/src/auth/hashing.js';
import { setUpApp } from '../../apps/control-api/test/authenticator-app.js';
import { signIn, withPassword, type Login } from '../../apps/control-api/test/sign-in.js';
import { createWorld, type Answer, type Person, type World } from '../../apps/control-api/test/world.js';

/** Parameters of each Argon2 that was run: what the hashing threads are given, watched on its way. */
const hashes: string[] = [];
const original = Reflect.get(HashThread.prototype, 'run') as HashThread['run'];
vi.spyOn(HashThread.prototype, 'run').mockImplementation(function (this: HashThread, job: HashJob) {
  const { memoryCost, timeCost, parallelism } = job.parameters;
  hashes.push(
    job.against?.split('$').slice(0, 4).join('$') ?? `new m=${memoryCost},t=${timeCost},p=${parallelism}`,
  );
  return original.call(this, job);
});

const clock = new FakeClock(Date.now());
const FULL = process.env['PENSTOCK_TEST_FULL'] === '1';
/** Wrong tries of each kind whose times are compared. */
const TRIES = FULL ? 500 : 60;
/** Times of one kind differ as much as this once in ten thousand runs; of full ones, once in a hundred. */
const P_MIN = FULL ? 0.01 : 0.0001;
/** And their medians by no more than this, on a machine that does other things too. */
const MEDIANS_APART = 0.25;
const INVENTED = 'nobody@example.org';

describe('V09 enumeration', () => {
  let world: World;
  let real: Login;
  let names: Record<string, string>;

  beforeAll(async () => {
    world = await createWorld({ clock, env: { RATE_LIMIT_FACTOR: '100' } });
    const tenantId = await world.tenant('one');
    real = await withPassword(world, tenantId, 'operator');
    const guarded = await withPassword(world, tenantId, 'operator');
    await setUpApp(world, (await signIn(world, guarded)).accessToken, guarded.password);
    const disabled = await withPassword(world, tenantId, 'operator');
    await world.sql('UPDATE account SET disabled_at = now() WHERE account_id = $1', [disabled.accountId]);
    const without: Person = await world.person(tenantId, 'operator');
    names = {
      ...{ real: real.email, 'with a second factor': guarded.email, disabled: disabled.email },
      'without a password': `${without.accountId}@example.org`,
    };
  }, 120_000);
  afterAll(() => world.close());

  const guess = (email: string, password = 'not the password'): Promise<Answer> =>
    signIn(world, { email, password });

  /** What a caller sees. What is left of his own address's limit goes down with each of his requests, whoever is named. */
  const visible = (answer: Answer): unknown => ({
    ...{ status: answer.status, body: { ...answer.body, request_id: '' } },
    headers: [...answer.headers]
      .filter(([name]) => !['date', 'x-request-id'].includes(name))
      .map(([name, value]) => (/^ratelimit/.test(name) ? [name] : [name, value])),
    length: answer.text.length,
  });

  test(
    'forty wrong tries of each: the same answers and the same waits, one by one',
    { timeout: 180_000 },
    async () => {
      const kinds = Object.entries({ ...names, invented: INVENTED });
      const seen = new Set<number>();
      for (let i = 0; i < 40; i++) {
        // Each begins once.
        const order = i % 2 === 0 ? kinds : [...kinds].reverse();
        const answers = new Map<string, Answer>();
        for (const [kind, email] of order) answers.set(kind, await guess(email));
        const invented = visible(answers.get('invented') as Answer);
        for (const [kind, answer] of answers)
          expect(visible(answer), `${kind}, try ${i + 1}`).toEqual(invented);
        seen.add(answers.get('invented')?.status ?? 0);
        // The address has its tokens back, so that it is the name's wait which refuses.
        clock.advance(6_000);
      }
      expect([...seen].sort()).toEqual([401, 429]);
      // The lock-out counts for nobody else: the person himself, from elsewhere or later, gets in.
      clock.advance(3_600_000);
      expect((await signIn(world, real)).status).toBe(200);
    },
  );

  test('the same work is done: one Argon2 of today’s parameters, and the same statements [R2-07]', async () => {
    const statements: string[] = [];
    world.context.pool.on('acquire', (client) => {
      if (Object.hasOwn(client, 'watched')) return;
      const query = client.query.bind(client) as (...args: unknown[]) => unknown;
      const watched = (...args: unknown[]): unknown => {
        const [config] = args as [string | { name?: string }];
        statements.push(typeof config === 'string' ? config : (config.name ?? ''));
        return query(...args);
      };
      Object.assign(client, { query: watched, watched: true });
    });
    const work = async (
      email: string,
    ): Promise<{ status: number; statements: string[]; hashes: string[] }> => {
      clock.advance(3_600_000);
      statements.length = 0;
      hashes.length = 0;
      const { status } = await guess(email);
      return { status, statements: [...statements], hashes: [...hashes] };
    };
    await work(INVENTED);
    const invented = await work(INVENTED);
    expect(invented.status).toBe(401);
    expect(invented.hashes.map((hash) => hash.split(/[$,]/).sort())).toEqual([
      ['', 'argon2id', 'm=65536', 'p=2', 't=3', 'v=19'],
    ]);
    expect(invented.statements).toEqual(expect.arrayContaining(['account.by_email', 'audit.append']));
    for (const [kind, email] of Object.entries(names)) expect(await work(email), kind).toEqual(invented);
  });

  test(`${TRIES} tries of a real and an invented name take the same time`, { timeout: 600_000 }, async () => {
    // One sample in a hundred of equal times looks different at n = 500: then a second one decides.
    let found = await sample();
    if (FULL && found.p <= P_MIN) found = await sample();
    const { a, b, p } = found;
    const said = `medians ${a.toFixed(1)} and ${b.toFixed(1)} ms, p = ${p.toFixed(4)}, n = ${TRIES}`;
    expect(Math.abs(a - b) / Math.max(a, b), said).toBeLessThanOrEqual(MEDIANS_APART);
    expect(p, said).toBeGreaterThan(P_MIN);
  });

  /** Medians of the times of a real and an invented name, and how likely such times are of one kind. */
  async function sample(): Promise<{ a: number; b: number; p: number }> {
    const times: Record<'real' | 'invented', number[]> = { real: [], invented: [] };
    const kinds = { real: real.email, invented: INVENTED };
    for (let i = 0; i < TRIES + 2; i++) {
      const order: (keyof typeof kinds)[] = i % 2 === 0 ? ['real', 'invented'] : ['invented', 'real'];
      for (const kind of order) {
        clock.advance(3_600_000);
        const startMs = performance.now();
        const { status } = await guess(kinds[kind]);
        const took = performance.now() - startMs;
        expect(status).toBe(401);
        // The first two open connections.
        if (i >= 2) times[kind].push(took);
      }
    }
    const [a, b] = [median(times.real), median(times.invented)];
    const p = sameDistribution(times.real, times.invented);
    process.stdout.write(
      `sign-in times: medians ${a.toFixed(1)} and ${b.toFixed(1)} ms, p = ${p.toFixed(4)}, n = ${TRIES}\n`,
    );
    return { a, b, p };
  }
});

function median(values: readonly number[]): number {
  const sorted = [...values].sort((x, y) => x - y);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

/** Kolmogorov–Smirnov for two samples: the probability of a distance like theirs when both are of one kind. */
function sameDistribution(a: readonly number[], b: readonly number[]): number {
  let distance = 0;
  for (const at of [...a, ...b]) {
    const share = (values: readonly number[]): number =>
      values.filter((value) => value <= at).length / values.length;
    distance = Math.max(distance, Math.abs(share(a) - share(b)));
  }
  const n = (a.length * b.length) / (a.length + b.length);
  const lambda = (Math.sqrt(n) + 0.12 + 0.11 / Math.sqrt(n)) * distance;
  let sum = 0;
  for (let j = 1; j <= 100; j++) sum += (j % 2 === 1 ? 2 : -2) * Math.exp(-2 * j * j * lambda * lambda);
  return Math.min(1, Math.max(0, lambda < 0.2 ? 1 : sum));
}
