// A control-api over a database of its own: the whole module on a real port, asked over HTTP. Accounts of other
// people are put in as a superuser would, because hashing a password for each would take the tests' time.
import { generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DynamicModule, Provider, Type } from '@nestjs/common';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import type { QueryResultRow } from 'pg';
import { systemClock, type Clock } from '@penstock/domain/clock';
import { newId, type AccountId, type TenantId } from '@penstock/domain/ids';
import type { Role } from '@penstock/domain/terms';
import { createPool, type Pool } from '@penstock/db/pool';
import { createLogger } from '@penstock/service/logger';
import { createMetrics } from '@penstock/service/metrics';
import { loadConfig } from '@penstock/service/config';
import { testDatabase, type TestDatabase } from '@penstock/testkit/postgres';
import { createTestTrust, writeTlsFiles, type TestTrust } from '@penstock/testkit/trust';
import { AppModule } from '../src/app.module.js';
import { AccessTokens } from '../src/auth/access-token.js';
import { configSchema } from '../src/config.js';
import { Context } from '../src/context.js';
import { createServer } from '../src/http/server.js';
import { SetupService } from '../src/setup/setup.service.js';

export const SETUP_TOKEN = randomBytes(24).toString('base64url');
export const ABSENT = '018f0000-0000-7000-8000-0000000000ff';

export interface Person {
  accountId: AccountId;
  tenantId: TenantId;
  familyId: string;
  token: string;
}

export interface Answer {
  status: number;
  headers: Headers;
  // Answers are checked against what the test expects, field by field.
  body: Record<string, never>;
  text: string;
}

export interface World {
  url: string;
  app: NestFastifyApplication;
  context: Context;
  database: TestDatabase;
  trust: TestTrust;
  platform: TenantId;
  directory: string;
  /** The log, one parsed line an event. */
  lines: Record<string, unknown>[];
  sql<Row extends QueryResultRow>(text: string, values?: unknown[]): Promise<Row[]>;
  tenant(name?: string): Promise<TenantId>;
  person(tenantId: TenantId, role: Role): Promise<Person>;
  ask(method: string, path: string, options?: Ask): Promise<Answer>;
  close(): Promise<void>;
}

export interface Ask {
  as?: Person | string | undefined;
  body?: unknown;
  headers?: Record<string, string>;
}

export interface WorldOptions {
  env?: Record<string, string>;
  clock?: Clock;
  /** Replaces providers of the module. */
  override?: Provider[];
  /** Replaces the module's controllers. */
  controllers?: Type[];
}

export function signingKey(): string {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' })
    .privateKey.export({ format: 'pem', type: 'pkcs8' })
    .toString();
}

export async function createWorld(options: WorldOptions = {}): Promise<World> {
  const database = await testDatabase();
  const directory = mkdtempSync(join(tmpdir(), 'control-api-'));
  const trust = await createTestTrust();
  const files = writeTlsFiles(join(directory, 'tls'), await trust.service('control-api'));
  const config = loadConfig(configSchema, {
    ...{
      NODE_ENV: 'test',
      PUBLIC_URL: 'http://127.0.0.1',
      DATABASE_URL: database.url('penstock_control_api'),
    },
    ...{ DATA_KEY: randomBytes(32).toString('base64'), JWT_KEY: signingKey(), SETUP_TOKEN },
    ...{ TLS_CERT_FILE: files.certFile, TLS_KEY_FILE: files.keyFile, TLS_ROOT_FILE: files.rootFile },
    ...{ TRUST_DOMAIN: trust.trustDomain, SCHEDULER_ADDRESS: '127.0.0.1:1' },
    ...{ NODE_ENROLL_ADDRESS: 'edge.test:8444', NODE_ENFORCEMENT_ADDRESS: 'edge.test:8443' },
    // All requests of a test come from one address; limits.test.ts is the one that meets them.
    ...{ NODE_USAGE_ADDRESS: 'edge.test:8443', RATE_LIMIT_FACTOR: '1000', ...options.env },
  });
  const lines: Record<string, unknown>[] = [];
  const log = createLogger('control-api', config.LOG_LEVEL, {
    write: (line: string) => void lines.push(JSON.parse(line) as Record<string, unknown>),
  });
  const pool = createPool(config.DATABASE_URL, { applicationName: 'test' });
  const context = new Context(config, options.clock ?? systemClock, log, createMetrics(), pool);
  const app = await createServer(
    override(AppModule.with(context, options.controllers), options.override ?? []),
  );
  const platform = await app.get(SetupService).prepare();
  await app.listen(0, '127.0.0.1');
  const { port } = app.getHttpServer().address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;
  const superuser = createPool(database.superuserUrl, { applicationName: 'test', max: 4 });
  const world: World = {
    ...{ url, app, context, database, trust, platform, directory, lines },
    sql: async <Row extends QueryResultRow>(text: string, values: unknown[] = []) =>
      (await superuser.query<Row>(text, values)).rows,
    tenant: (name = 'tenant') => insertTenant(superuser, name),
    person: (tenantId, role) => insertPerson(superuser, app.get(AccessTokens), tenantId, role),
    ask: (method, path, ask) => send(url, method, path, ask),
    close: async () => {
      await app.close();
      await pool.end();
      await superuser.end();
      await database.drop();
      rmSync(directory, { recursive: true });
    },
  };
  return world;
}

function override(module: DynamicModule, providers: Provider[]): DynamicModule {
  return { ...module, providers: [...(module.providers ?? []), ...providers] };
}

async function send(url: string, method: string, path: string, options: Ask = {}): Promise<Answer> {
  const { as, body, headers = {} } = options;
  const token = typeof as === 'string' ? as : as?.token;
  const response = await fetch(url + path, {
    method,
    headers: {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const text = await response.text();
  const isJson = /^application\/(problem\+)?json/.test(response.headers.get('content-type') ?? '');
  return {
    ...{ status: response.status, headers: response.headers, text },
    body: (isJson ? JSON.parse(text) : {}) as Record<string, never>,
  };
}

async function insertTenant(pool: Pool, name: string): Promise<TenantId> {
  const tenantId = newId<TenantId>();
  await pool.query(`INSERT INTO tenant (tenant_id, name, kind) VALUES ($1, $2, 'customer')`, [
    tenantId,
    name,
  ]);
  return tenantId;
}

/** Of a password that nobody knows: who signed in once has one. */
const UNGUESSED_HASH = `$argon2id$v=19$m=65536,t=3,p=2$${'A'.repeat(22)}$${'A'.repeat(43)}`;

async function insertPerson(
  pool: Pool,
  tokens: AccessTokens,
  tenantId: TenantId,
  role: Role,
): Promise<Person> {
  const accountId = newId<AccountId>();
  const familyId = randomUUID();
  await pool.query(`INSERT INTO account (account_id, email, password_hash) VALUES ($1, $2, $3)`, [
    ...[accountId, `${accountId}@example.org`, UNGUESSED_HASH],
  ]);
  await pool.query(`INSERT INTO member (tenant_id, account_id, role) VALUES ($1, $2, $3)`, [
    tenantId,
    accountId,
    role,
  ]);
  await pool.query(
    `INSERT INTO session (session_id, account_id, family_id, refresh_hash, expires_at)
     VALUES ($1, $2, $3, $4, now() + interval '30 days')`,
    [newId(), accountId, familyId, randomBytes(32)],
  );
  return { accountId, tenantId, familyId, token: await tokens.issue(accountId, tenantId, familyId) };
}
