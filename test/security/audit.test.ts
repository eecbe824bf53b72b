// The audit log as a promise: every change leaves exactly one row, in its own transaction; no row, no change; and
// whoever tampers with the rows, with all the power of the database, is found.
import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { verifyAuditChain, type AuditHead, type ChainReport } from '@penstock/db/audit-chain';
import { createClient } from '@penstock/db/pool';
import { controllers } from '../../apps/control-api/src/app.module.js';
import { eventNames } from '../../apps/control-api/src/events/event-names.js';
import { routesOf, type Route } from '../../apps/control-api/src/http/routes.js';
import { permissions } from '../../apps/control-api/src/permissions.js';
import { fingerprint, idsOf, request } from '../../apps/control-api/test/attacks.js';
import { make, planTerms, scene, vless } from '../../apps/control-api/test/scene.js';
import { createWorld, type Person, type World } from '../../apps/control-api/test/world.js';

const full = process.env['PENSTOCK_TEST_FULL'] !== undefined;
const OPERATIONS = full ? 10_000 : 1_000;
const TAMPERS = full ? 1_000 : 200;
const PARALLEL = 8;

/** Seeded, so that a failure can be had again. */
function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

interface Operation {
  method: string;
  path: string;
  body?: object;
}

/** Endless operations on the own tenant, each of which is to succeed. */
class Operations {
  #made = 0;
  readonly #plans: string[] = [];
  readonly #subscriptions: string[] = [];

  constructor(
    readonly next: () => number,
    readonly groupId: string,
    readonly members: Person[],
  ) {}

  take(): Operation {
    const n = ++this.#made;
    const kind = Math.floor(this.next() * 10);
    const plan = this.#pick(this.#plans);
    const subscription = this.#pick(this.#subscriptions);
    const path = `/api/v1/subscriptions/${subscription}`;
    if (plan === undefined || kind === 0) {
      return post('plans', { ...planTerms, name: `plan ${n}`, nodeGroupIds: [this.groupId] });
    }
    if (subscription === undefined || kind <= 2) {
      return post('subscriptions', { planId: plan, name: `customer ${n}` });
    }
    if (kind <= 4) return { method: 'PATCH', path, body: { name: `renamed ${n}` } };
    if (kind === 5) return { method: 'PATCH', path, body: { limitBytes: String(n) } };
    if (kind === 6 && n % 2 === 0) return post('node-groups', { name: `group ${n}` });
    if (kind === 6) {
      const node = { name: `node ${n}`, address: 'n.example.org', inbounds: [vless] };
      return post('nodes', { ...node, nodeGroupIds: [this.groupId] });
    }
    if (kind === 7) return post('invitations', { email: `p${n}@example.org`, role: 'auditor' });
    if (kind === 8) return { method: 'PATCH', path: '/api/v1/tenant', body: { name: `tenant ${n}` } };
    this.#subscriptions.splice(this.#subscriptions.indexOf(subscription), 1);
    return { method: 'DELETE', path };
  }

  done(body: Record<string, unknown>): void {
    if (typeof body['subscriptionId'] === 'string' && !this.#subscriptions.includes(body['subscriptionId']))
      this.#subscriptions.push(body['subscriptionId']);
    else if (typeof body['nodeGroupIds'] === 'object') this.#plans.push(String(body['planId']));
  }

  #pick(list: readonly string[]): string | undefined {
    return list[Math.floor(this.next() * list.length)];
  }
}

function post(noun: string, body: object): Operation {
  return { method: 'POST', path: `/api/v1/${noun}`, body };
}

describe('the audit log', () => {
  let world: World;
  let owner: Person;
  let groupId: string;

  beforeAll(async () => {
    world = await createWorld();
    owner = await world.person(await world.tenant('audited'), 'owner');
    groupId = String((await make(world, owner, '/api/v1/node-groups', { name: 'first' }))['nodeGroupId']);
  });
  afterAll(() => world.close());

  const rowsOf = async (tenantId: string): Promise<number> =>
    (
      await world.sql<{ n: number }>('SELECT count(*)::int AS n FROM audit_log WHERE tenant_id = $1', [
        tenantId,
      ])
    )[0]?.n ?? 0;

  /** Walks the chain as a superuser sees it, within his own transaction. */
  const walk = (client: ReturnType<typeof createClient>, heads: AuditHead[] = []): Promise<ChainReport> =>
    verifyAuditChain((work) => work(client), owner.tenantId, { heads });

  test(
    '1,000 random operations, eight at a time, leave 1,000 rows and a whole chain [R2-13]',
    {
      timeout: 600_000,
    },
    async () => {
      const operations = new Operations(random(4), groupId, []);
      const before = await rowsOf(owner.tenantId);
      let left = OPERATIONS;
      const worker = async (): Promise<void> => {
        while (left > 0) {
          left--;
          const { method, path, body } = operations.take();
          const answer = await world.ask(method, path, { as: owner, ...(body && { body }) });
          if (answer.status === 201) operations.done(answer.body);
          if (answer.status < 300) continue;
          // One of the eight deleted it meanwhile.
          expect(answer.status, `${method} ${path} ${answer.text}`).toBe(404);
          left++;
        }
      };
      await Promise.all(Array.from({ length: PARALLEL }, worker));
      expect(await rowsOf(owner.tenantId)).toBe(before + OPERATIONS);
      const report = await world.ask('GET', '/api/v1/audit/verify', { as: owner });
      expect(report.body).toMatchObject({ ok: true, rows: before + OPERATIONS });
    },
  );

  test('what is refused leaves no row', async () => {
    const before = await rowsOf(owner.tenantId);
    const refused: Operation[] = [
      post('plans', { name: '' }),
      post('subscriptions', { planId: groupId, name: 'x' }),
      { method: 'DELETE', path: `/api/v1/members/${owner.accountId}` },
      { method: 'PATCH', path: '/api/v1/tenant', body: {} },
    ];
    for (const { method, path, body } of refused)
      expect(
        (await world.ask(method, path, { as: owner, ...(body && { body }) })).status,
      ).toBeGreaterThanOrEqual(400);
    expect(await rowsOf(owner.tenantId)).toBe(before);
  });

  test(
    'tampers of every kind by a superuser are all found, at the row that was touched [G13]',
    {
      timeout: 600_000,
    },
    async () => {
      const client = createClient(world.database.superuserUrl, 'test');
      await client.connect();
      const next = random(13);
      try {
        const rows = await rowsOf(owner.tenantId);
        const { rows: end } = await client.query<AuditHead>(
          'SELECT seq, hash FROM audit_log WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1',
          [owner.tenantId],
        );
        expect(await walk(client, end)).toMatchObject({ ok: true, rows });
        const kinds = Object.entries(tampers);
        for (let n = 0; n < TAMPERS; n++) {
          const [kind, tamper] = kinds[n % kinds.length] as (typeof kinds)[number];
          const seq = 2 + Math.floor(next() * (rows - 3));
          await client.query('BEGIN');
          await client.query('SET LOCAL session_replication_role = replica');
          const firstWrong = await tamper(client, owner.tenantId, seq, rows);
          const report = await walk(client, end);
          await client.query('ROLLBACK');
          expect(report.ok, `${kind} at ${seq}`).toBe(false);
          expect(Number(report.firstWrongSeq), `${kind} at ${seq}: ${report.reason}`).toBe(firstWrong);
        }
        expect(await walk(client, end)).toMatchObject({ ok: true, rows });
      } finally {
        await client.end();
      }
    },
  );

  test('without a head that was kept elsewhere a cut end is not seen; with it, it is', async () => {
    const client = createClient(world.database.superuserUrl, 'test');
    await client.connect();
    try {
      const { rows: end } = await client.query<AuditHead>(
        'SELECT seq, hash FROM audit_log WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1',
        [owner.tenantId],
      );
      await client.query('BEGIN');
      await client.query('SET LOCAL session_replication_role = replica');
      await client.query('DELETE FROM audit_log WHERE tenant_id = $1 AND seq = $2', [
        owner.tenantId,
        end[0]!.seq,
      ]);
      expect(await walk(client)).toMatchObject({ ok: true });
      expect(await walk(client, end)).toMatchObject({ ok: false, firstWrongSeq: end[0]!.seq });
      await client.query('ROLLBACK');
    } finally {
      await client.end();
    }
  });
});

type Tamper = (
  client: ReturnType<typeof createClient>,
  tenantId: string,
  seq: number,
  rows: number,
) => Promise<number>;

/** Sets one column to something else. */
const column =
  (set: string): Tamper =>
  async (client, tenantId, seq) => {
    const { rowCount } = await client.query(`UPDATE audit_log SET ${set} WHERE tenant_id = $1 AND seq = $2`, [
      tenantId,
      seq,
    ]);
    expect(rowCount, set).toBe(1);
    return seq;
  };

const tampers: Record<string, Tamper> = {
  'another time': column(`at = at + interval '1 second'`),
  'a time of microseconds': column(`at = at + interval '1 microsecond'`),
  'another person': column('account_id = gen_random_uuid()'),
  'no person': column('account_id = NULL'),
  'a key': column('key_id = gen_random_uuid()'),
  'another action': column(`action = 'plan.read'`),
  'another noun': column(`entity = 'nothing'`),
  'another object': column('entity_id = gen_random_uuid()'),
  'another before': column(`before = '{"name": "x"}'`),
  'another after': column(`after = coalesce(after, '{}') || '{"limitBytes": "1"}'`),
  'another address': column(`ip = '192.0.2.77'`),
  'a network for an address': column(`ip = '192.0.2.0/24'`),
  'another agent': column(`user_agent = 'curl'`),
  'another request': column('request_id = gen_random_uuid()'),
  'a trace': column(`trace_id = '4bf92f3577b34da6a3ce929d0e0e4736'`),
  'another hash': column(`hash = sha256('x')`),
  'another link': column(`prev_hash = sha256('x')`),
  removed: async (client, tenantId, seq) => {
    await client.query('DELETE FROM audit_log WHERE tenant_id = $1 AND seq = $2', [tenantId, seq]);
    return seq;
  },
  'removed, and the rest moved up': async (client, tenantId, seq) => {
    await client.query('DELETE FROM audit_log WHERE tenant_id = $1 AND seq = $2', [tenantId, seq]);
    await client.query('UPDATE audit_log SET seq = -seq WHERE tenant_id = $1 AND seq > $2', [tenantId, seq]);
    await client.query('UPDATE audit_log SET seq = -seq - 1 WHERE tenant_id = $1 AND seq < 0', [tenantId]);
    return seq;
  },
  exchanged: async (client, tenantId, seq) => {
    await client.query(
      `UPDATE audit_log SET seq = -seq WHERE tenant_id = $1 AND seq IN ($2::bigint, $2::bigint + 1)`,
      [tenantId, seq],
    );
    await client.query(
      `UPDATE audit_log SET seq = CASE WHEN seq = -$2::bigint THEN $2::bigint + 1 ELSE $2::bigint END
        WHERE tenant_id = $1 AND seq < 0`,
      [tenantId, seq],
    );
    return seq;
  },
  'the end cut off': async (client, tenantId, seq) => {
    await client.query('DELETE FROM audit_log WHERE tenant_id = $1 AND seq >= $2', [tenantId, seq]);
    return seq;
  },
  // Somebody who knows how rows are hashed writes the chain anew from here on: only the kept head tells.
  'the end cut off and written anew': async (client, tenantId, seq, rows) => {
    await client.query('DELETE FROM audit_log WHERE tenant_id = $1 AND seq >= $2', [tenantId, seq]);
    for (let n = seq; n <= Math.min(rows, seq + 3); n++) await forge(client, tenantId, n);
    return seq + 3 >= rows ? rows : seq + 4;
  },
};

/** A row of the forger, hashed as ours are. */
async function forge(client: ReturnType<typeof createClient>, tenantId: string, seq: number): Promise<void> {
  const { rows } = await client.query<{ hash: Buffer }>(
    'SELECT hash FROM audit_log WHERE tenant_id = $1 AND seq = $2',
    [tenantId, seq - 1],
  );
  const prev = rows[0]!.hash;
  const at = new Date();
  const requestId = '01890a5d-ac96-774b-bcce-b302099a8001';
  const text =
    `{"accountId":null,"action":"plan.read","after":null,"at":"${at.toISOString()}","before":null,"entity":"plan",` +
    `"entityId":null,"ip":null,"requestId":"${requestId}","tenantId":"${tenantId}","userAgent":null}`;
  await client.query(
    `INSERT INTO audit_log (tenant_id, seq, at, action, entity, request_id, prev_hash, hash)
     VALUES ($1, $2, $3, 'plan.read', 'plan', $4, $5, $6)`,
    [tenantId, seq, at, requestId, prev, createHash('sha256').update(prev).update(text).digest()],
  );
}

/** Gives an access token for another tenant, and notes that the session acts there. */
const bookkeeping = ['AuthController.switchTenant'];
const changing = routesOf(controllers).filter(
  ({ method, declaration, handler }) =>
    method !== 'GET' && declaration.access !== 'public' && !bookkeeping.includes(handler),
);
const isPlatforms = ({ declaration: { access } }: Route): boolean =>
  access !== 'public' && access !== 'self' && 'platform' in permissions[access];

describe('every route that changes something', () => {
  let world: World;

  beforeAll(async () => {
    world = await createWorld();
  });
  afterAll(() => world.close());

  const count = async (): Promise<number> =>
    (await world.sql<{ n: number }>('SELECT count(*)::int AS n FROM audit_log'))[0]?.n ?? 0;

  test.each(changing.map((route) => [`${route.method} ${route.path}`, route] as const))(
    '%s: one row when it is done, nothing at all when the row cannot be written [R2-13] [G13]',
    { timeout: 60_000 },
    async (_name, route) => {
      const own = await scene(world, await world.person(await world.tenant(), 'owner'));
      const as = isPlatforms(route) ? await world.person(world.platform, 'owner') : own.admin;
      const ids = idsOf(own);
      const { method, path, body } = request(route, ids, ids);
      const send = (): ReturnType<World['ask']> => world.ask(method, path, { as, ...(body && { body }) });

      await world.sql(`CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$;
        CREATE TRIGGER fail BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION fail()`);
      const before = await fingerprint(world, ids);
      const failed = await send();
      const after = await fingerprint(world, ids);
      await world.sql('DROP TRIGGER fail ON audit_log; DROP FUNCTION fail()');
      // Without its row nothing of it stands; what answers well then has changed nothing.
      expect(after, `${failed.status} ${failed.text}`).toBe(before);

      const rows = await count();
      const done = await send();
      const written = (await count()) - rows;
      const wanted = failed.status < 300 || done.status >= 400 ? 0 : 1;
      expect(written, `${done.status} ${done.text}`).toBe(more[route.handler] ?? wanted);
    },
  );

  test('is told to live pages under a name of the closed list', async () => {
    const told = await world.sql<{ type: string }>('SELECT DISTINCT type FROM event');
    expect(told.length).toBeGreaterThan(40);
    expect(told.filter(({ type }) => !eventNames.includes(type))).toEqual([]);
  });
});

test('joining by link without its row makes neither account nor member, and the link still works', async () => {
  const world = await createWorld();
  try {
    const owner = await world.person(await world.tenant(), 'owner');
    const invited = await make(world, owner, '/api/v1/invitations', {
      email: 'new@example.org',
      role: 'auditor',
    });
    const body = { token: String(invited['link']).split('#')[1], password: 'a long enough sentence' };
    const accept = (): ReturnType<World['ask']> => world.ask('POST', '/api/v1/invitations/accept', { body });
    await world.sql(`CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$;
      CREATE TRIGGER fail BEFORE INSERT ON audit_log FOR EACH ROW EXECUTE FUNCTION fail()`);
    expect((await accept()).status).toBeGreaterThanOrEqual(500);
    const people = `SELECT (SELECT count(*)::int FROM account) AS accounts, (SELECT count(*)::int FROM member) AS members`;
    expect(await world.sql(people)).toEqual([{ accounts: 1, members: 1 }]);
    await world.sql('DROP TRIGGER fail ON audit_log; DROP FUNCTION fail()');
    expect((await accept()).status).toBe(200);
    expect(await world.sql(people)).toEqual([{ accounts: 2, members: 2 }]);
  } finally {
    await world.close();
  }
});

/** Where a request leaves another number of rows than one, and why. */
const more: Readonly<Record<string, number>> = {
  // The wish is written before the scheduler is asked, which is away here: no revocation goes without a trace.
  'NodesController.revoke': 1,
};
