// Commands that run at the same time share one session file: each stays who and where it began, none undoes another.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, resolve } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import type { TenantId } from '@penstock/domain/ids';
import { anHourLater, withPassword, type Login } from '../../control-api/test/sign-in.js';
import { createWorld, type World } from '../../control-api/test/world.js';
import { Api } from '../src/api.js';
import { changeSession, readSession, type Session } from '../src/session.js';
import { Penstock } from './penstock.js';

const built = resolve(import.meta.dirname, '../dist/session.js');

const PASSED_ON = ['authorization', 'content-type', 'accept', 'idempotency-key', 'if-match'];

/** Stands before the API; something may happen while the server answers one path. */
class Between {
  readonly #server: Server;
  #happens: { path: string; act: () => Promise<void> } | undefined;

  constructor(api: string) {
    this.#server = createServer((request, response) => {
      void (async () => {
        const chunks: Buffer[] = [];
        for await (const chunk of request) chunks.push(chunk as Buffer);
        const headers = new Headers();
        for (const name of PASSED_ON) {
          const value = request.headers[name];
          if (typeof value === 'string') headers.set(name, value);
        }
        const answer = await fetch(new URL(request.url ?? '/', api), {
          method: request.method ?? 'GET',
          headers,
          ...(chunks.length > 0 && { body: Buffer.concat(chunks) }),
        });
        const body = Buffer.from(await answer.arrayBuffer());
        const happens = this.#happens;
        if (happens !== undefined && request.url?.startsWith(happens.path) === true) {
          this.#happens = undefined;
          await happens.act();
        }
        response.writeHead(answer.status, {
          'content-type': answer.headers.get('content-type') ?? 'application/json',
        });
        response.end(body);
      })();
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((done) => this.#server.listen(0, '127.0.0.1', done));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Once, before the next answer to this path arrives. */
  during(path: string, act: () => Promise<void>): void {
    this.#happens = { path, act };
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

describe('commands that run at the same time', () => {
  const clock = new FakeClock(Date.now());
  let world: World;
  let here: TenantId;
  let there: TenantId;
  let alice: Login;
  let bob: Login;
  let between: Between;
  let address: string;
  let penstock: Penstock;

  beforeAll(async () => {
    world = await createWorld({ clock });
    [here, there] = [await world.tenant('here'), await world.tenant('there')];
    alice = await withPassword(world, here, 'owner');
    bob = await withPassword(world, there, 'owner');
    const place = `INSERT INTO member (tenant_id, account_id, role) VALUES ($1, $2, 'owner')`;
    await world.sql(place, [there, alice.accountId]);
    between = new Between(world.url);
    address = await between.listen();
  });
  afterAll(async () => {
    between.close();
    await world.close();
  });
  beforeEach(async () => {
    penstock = new Penstock(address);
    await command().signIn(alice.email, alice.password, here);
  });
  afterEach(() => penstock.remove());

  /** As a process of its own has it. */
  const command = (): Api => new Api(address, { HOME: penstock.home });
  const kept = (): Session | undefined => readSession(penstock.sessionFile, address);
  const put = (session: Partial<Session> | undefined): Promise<void> =>
    changeSession(penstock.sessionFile, address, (now) =>
      session === undefined ? undefined : ({ ...now, ...session } as Session),
    );
  const where = async (api: Api): Promise<[string, string]> => {
    const { account, tenant } = await api.whoami();
    return [account.email, tenant.tenantId];
  };

  test('a list whose tenant is changed by `use` between two pages is of the first tenant alone', async () => {
    for (const [tenant, count] of [
      [here, 201],
      [there, 250],
    ] as const)
      await world.sql(
        `INSERT INTO node_group (node_group_id, owner_tenant_id, name)
         SELECT gen_random_uuid(), $1::uuid, $1::uuid::text || ' ' || n FROM generate_series(1, $2::int) n`,
        [tenant, count],
      );
    between.during('/api/v1/node-groups', () => command().switchTenant(there));
    const rows = await command().list<{ name: string }>('/api/v1/node-groups');
    expect(kept()?.tenantId).toBe(there);
    expect(rows.filter(({ name }) => !name.startsWith(here))).toEqual([]);
    expect(rows).toHaveLength(201);
  });

  const meanwhile = {
    login: (): Partial<Session> => ({
      email: bob.email,
      tenantId: there,
      refreshToken: 'his',
      accessToken: 'his',
    }),
    logout: (): undefined => undefined,
  };
  test.each(['login', 'logout'] as const)('a renewal does not undo a %s meanwhile', async (act) => {
    const running = command();
    await running.whoami();
    await anHourLater(world, clock);
    between.during('/api/v1/auth/refresh', () => put(meanwhile[act]()));
    expect(await where(running)).toEqual([alice.email, here]);
    if (act === 'logout') expect(kept()).toBeUndefined();
    else expect(kept()).toMatchObject(meanwhile.login());
    // And it goes on, renewing what it has in hand.
    await anHourLater(world, clock);
    expect(await where(running)).toEqual([alice.email, here]);
    if (act === 'logout') expect(kept()).toBeUndefined();
    else expect(kept()).toMatchObject(meanwhile.login());
  });

  test('a renewal does not undo a `use` meanwhile, and both commands go on in their tenants', async () => {
    const running = command();
    await running.whoami();
    await anHourLater(world, clock);
    between.during('/api/v1/auth/refresh', () => put({ tenantId: there, accessToken: 'of there' }));
    expect(await where(running)).toEqual([alice.email, here]);
    expect(kept()).toMatchObject({ tenantId: there, accessToken: 'of there' });
    for (let hour = 0; hour < 2; hour++) {
      await anHourLater(world, clock);
      expect(await where(command())).toEqual([alice.email, there]);
      await anHourLater(world, clock);
      expect(await where(running)).toEqual([alice.email, here]);
      expect(kept()?.tenantId).toBe(there);
    }
  });

  test('a logout does not end a login that comes while the server answers', async () => {
    between.during('/api/v1/auth/sign-out', () => command().signIn(bob.email, bob.password));
    await command().signOut();
    expect(await where(command())).toEqual([bob.email, there]);
  });

  test('`use` after another person signed in says so and leaves his session alone', async () => {
    between.during('/api/v1/auth/switch', () => command().signIn(bob.email, bob.password));
    await expect(command().switchTenant(there)).rejects.toMatchObject({ code: 'conflict' });
    expect(await where(command())).toEqual([bob.email, there]);
  });
});

describe('the session file', () => {
  const ENTRIES = 200;
  const WRITERS = ['one', 'two', 'three'];

  test.each(['no lock', 'a lock that a killed command left behind'])(
    'loses nothing that processes write at the same time, with %s',
    async (before) => {
      const penstock = new Penstock('http://127.0.0.1:1');
      const file = penstock.sessionFile;
      const lock = `${file}.lock`;
      mkdirSync(dirname(file), { recursive: true });
      if (before !== 'no lock') {
        writeFileSync(lock, 'left');
        utimesSync(lock, new Date(0), new Date(0));
      }
      const script = `
        import { changeSession } from ${JSON.stringify(built)};
        const [file, name] = process.argv.slice(1);
        for (let i = 0; i < ${ENTRIES}; i++) await changeSession(file, name + i, () => ({ email: name }));`;
      const codes = WRITERS.map(async (name) => {
        const args = ['--input-type=module', '--eval', script, file, name];
        const [code] = (await once(spawn(process.execPath, args, { stdio: 'inherit' }), 'close')) as [number];
        return code;
      });
      expect(await Promise.all(codes)).toEqual(WRITERS.map(() => 0));
      const all = JSON.parse(readFileSync(file, 'utf8')) as object;
      expect(Object.keys(all)).toHaveLength(ENTRIES * WRITERS.length);
      expect(existsSync(lock)).toBe(false);
      penstock.remove();
    },
  );
});
