// What the host can do without the API, as the command that an operator runs: the walk along all audit chains, and the
// way back for an owner who is locked out. Separate processes, on a database that control-api has filled.
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { scene, type Scene } from '../../apps/control-api/test/scene.js';
import { signIn, withPassword } from '../../apps/control-api/test/sign-in.js';
import { createWorld, type World } from '../../apps/control-api/test/world.js';

const main = resolve(import.meta.dirname, '../../apps/cli/dist/main.js');
const password = 'an entirely new sentence';

interface Ended {
  code: number | null;
  out: string;
  err: string;
}

describe('on the host', () => {
  let world: World;
  let own: Scene;
  const data = mkdtempSync(join(tmpdir(), 'penstock-host-'));

  beforeAll(async () => {
    world = await createWorld({ env: { TRUSTED_PROXIES: '127.0.0.1/32' } });
    own = await scene(world, await world.person(await world.tenant('own'), 'owner'));
    mkdirSync(join(data, 'secret', 'database'), { recursive: true });
    const file = join(data, 'secret', 'database', 'penstock_control_api.url');
    writeFileSync(file, world.database.url('penstock_control_api'), { mode: 0o600 });
  });
  afterAll(async () => {
    await world.close();
    rmSync(data, { recursive: true });
  });

  function penstock(...args: string[]): Promise<Ended> {
    const child = spawn(process.execPath, [main, '--data', data, ...args], {
      env: { PATH: process.env['PATH'], HOME: data },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const ended: Ended = { code: null, out: '', err: '' };
    child.stdout.on('data', (chunk: Buffer) => (ended.out += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (ended.err += chunk.toString()));
    return new Promise((done) => child.on('close', (code) => done({ ...ended, code })));
  }

  test('audit verify: all chains are whole; a changed row is named; a cut end is found by a kept head [R2-13]', async () => {
    const heads = join(data, 'heads.ndjson');
    writeFileSync(heads, (await penstock('audit', 'heads')).out);
    expect(readFileSync(heads, 'utf8').trim().split('\n').length).toBeGreaterThanOrEqual(2);
    const whole = await penstock('audit', 'verify', '--head', heads);
    expect([whole.code, whole.err]).toEqual([0, '']);
    expect(whole.out).toMatch(/\d+ chains verified/);

    const tenantId = own.admin.tenantId;
    const tampered = async (sql: string): Promise<void> => {
      await world.sql(
        `SET session_replication_role = replica; ${sql}; SET session_replication_role = origin`,
      );
    };
    const [last] = await world.sql<{ seq: bigint }>(
      'SELECT max(seq) AS seq FROM audit_log WHERE tenant_id = $1',
      [tenantId],
    );
    await world.sql('CREATE TABLE kept AS SELECT * FROM audit_log WHERE tenant_id = $1', [tenantId]);
    await tampered(`DELETE FROM audit_log WHERE tenant_id = '${tenantId}' AND seq = ${last?.seq}`);
    expect((await penstock('audit', 'verify', '--tenant', tenantId)).code).toBe(0);
    const cut = await penstock('audit', 'verify', '--tenant', tenantId, '--head', heads);
    expect(cut.code).toBe(1);
    expect(cut.out).toContain(`WRONG at row ${last?.seq}: the end is missing`);

    await tampered(
      `UPDATE audit_log SET user_agent = 'somebody' WHERE tenant_id = '${tenantId}' AND seq = 2`,
    );
    const changed = await penstock('--json', 'audit', 'verify');
    expect(changed.code).toBe(1);
    const { tenants } = JSON.parse(changed.out) as { tenants: { tenantId: string; ok: boolean }[] };
    expect(tenants.find((tenant) => tenant.tenantId === tenantId)).toMatchObject({
      ...{ ok: false, firstWrongSeq: '2', reason: 'this row was changed' },
    });
    expect(tenants.filter((tenant) => !tenant.ok)).toHaveLength(1);

    await tampered(`DELETE FROM audit_log WHERE tenant_id = '${tenantId}'`);
    const gone = await penstock('audit', 'verify', '--head', heads);
    expect([gone.code, gone.out.includes('WRONG at row 1')]).toEqual([1, true]);
    await tampered('INSERT INTO audit_log SELECT * FROM kept');
    expect((await penstock('audit', 'verify', '--head', heads)).code).toBe(0);
  });

  test('owner recover: a locked-out owner gets in again by a link that works once, and the log says so', async () => {
    const owner = await withPassword(world, world.platform, 'admin', 'the old forgotten sentence');
    await world.sql('UPDATE account SET disabled_at = now() WHERE account_id = $1', [owner.accountId]);
    const done = await penstock(
      'owner',
      'recover',
      '--email',
      owner.email.toUpperCase(),
      '--url',
      'https://vpn.example.org/',
    );
    expect([done.code, done.err]).toEqual([0, '']);
    const token = /https:\/\/vpn\.example\.org\/reset#(prl1\.[A-Za-z0-9_-]{43})/.exec(done.out)?.[1] ?? '';
    const reset = (): ReturnType<World['ask']> =>
      world.ask('POST', '/api/v1/auth/reset', { body: { token, password } });
    expect((await reset()).status).toBe(204);
    expect((await reset()).body).toMatchObject({ code: 'token_used' });
    const answer = await signIn(world, { email: owner.email, password });
    const me = await world.ask('GET', '/api/v1/auth/me', { as: answer.accessToken });
    expect(me.body).toMatchObject({ role: 'owner', tenant: { tenantId: world.platform, platform: true } });
    const rows = await world.sql(
      `SELECT account_id, before, after - 'expiresAt' AS after FROM audit_log
        WHERE tenant_id = $1 AND action = 'owner.recover'`,
      [world.platform],
    );
    expect(rows).toEqual([
      {
        account_id: null,
        before: { role: 'admin', disabled: true },
        after: { email: owner.email, role: 'owner', newAccount: false, removeSecondFactor: false },
      },
    ]);
    const [dump] = await world.sql<{ text: string }>(
      `SELECT string_agg(t::text, ' ') AS text FROM (SELECT a::text AS t FROM audit_log a UNION ALL SELECT o::text FROM one_time_link o) x`,
    );
    expect(dump?.text).not.toContain(token);
  });

  test('owner recover: a platform without any account gets its owner; nothing signs in before the link was used', async () => {
    const email = 'fresh@example.org';
    const first = await penstock(
      '--json',
      'owner',
      'recover',
      '--email',
      email,
      '--url',
      'https://vpn.example.org',
    );
    const made = JSON.parse(first.out) as { made: boolean; link: string };
    expect(made.made).toBe(true);
    expect((await signIn(world, { email, password: 'none' })).status).toBe(401);
    // A second link ends the first.
    const second = await penstock(
      '--json',
      'owner',
      'recover',
      '--email',
      email,
      '--url',
      'https://vpn.example.org',
    );
    const tokenOf = (text: string): string => (JSON.parse(text) as { link: string }).link.split('#')[1] ?? '';
    // From another place than the person above: an address has few tries at one-time links.
    const headers = { 'x-forwarded-for': '192.0.2.9' };
    const reset = (token: string): ReturnType<World['ask']> =>
      world.ask('POST', '/api/v1/auth/reset', { body: { token, password }, headers });
    expect((await reset(tokenOf(first.out))).status).toBeGreaterThanOrEqual(400);
    expect((await reset(tokenOf(second.out))).status).toBe(204);
    expect((await signIn(world, { email, password })).body).toMatchObject({ tenantId: world.platform });
  });

  test('what is no address, no file and no database ends with one sentence', async () => {
    for (const args of [
      ['owner', 'recover', '--email', 'nobody', '--url', 'https://x.example'],
      ['audit', 'verify', '--head', join(data, 'absent')],
      ['audit', 'verify', '--tenant', 'x'],
    ]) {
      const ended = await penstock(...args);
      expect(ended.code).toBe(1);
      expect(ended.err).toMatch(/^penstock: .+\n$/);
    }
  });
});
