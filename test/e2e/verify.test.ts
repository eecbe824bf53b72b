// What an auditor holds: the hash chain in the database and in an export, with the command as he would run it.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { download } from '@penstock/testkit/traffic/socks-client';
import { World, PASSWORD, type Customer } from './world.js';

const program = resolve(import.meta.dirname, '../../apps/cli/dist/main.js');
let world: World;
let customer: Customer;
let other: Customer;
let scratch: string;

function penstock(args: string[], input = ''): { code: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], {
    encoding: 'utf8',
    input,
    cwd: scratch,
    env: { HOME: scratch, PATH: process.env['PATH'] ?? '' },
  });
  return { code: status, text: stdout + stderr };
}

beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), 'pst-audit-'));
  world = await World.start();
  const node = await world.addNode('one', ['xray']);
  customer = await world.addCustomer(null, ['xray']);
  other = await world.addCustomer(null, ['xray'], await world.addTenant('Second'));
  for (const one of [customer, other]) {
    const client = await world.xrayClient(one, node);
    for (const bytes of [100_000, 200_000]) {
      await download(world.socks(client), bytes);
      await world.booked(one, await world.xrayCounters(node, one));
    }
  }
});
afterAll(() => world?.destroy());

test('the ledger verifies, from the database and from an export without one', () => {
  const data = ['--data', world.stack.paths.dir];
  expect(penstock([...data, 'verify'])).toMatchObject({
    code: 0,
    text: expect.stringContaining('1 streams verified'),
  });
  const file = join(scratch, 'ledger.export');
  expect(penstock([...data, 'export', '--out', file])).toMatchObject({ code: 0 });
  expect(penstock(['verify', '--export', file])).toMatchObject({
    code: 0,
    text: expect.stringContaining('1 streams verified'),
  });
});

test('a tenant’s export verifies and shows only digests of others', () => {
  const file = join(scratch, 'tenant.export');
  expect(
    penstock(['--data', world.stack.paths.dir, 'export', '--out', file, '--tenant', customer.tenantId]),
  ).toMatchObject({ code: 0 });
  expect(penstock(['verify', '--export', file])).toMatchObject({ code: 0 });
  const bytes = readFileSync(file);
  expect(bytes.includes(Buffer.from(customer.subscriptionId.replaceAll('-', ''), 'hex'))).toBe(true);
  expect(bytes.includes(Buffer.from(other.subscriptionId.replaceAll('-', ''), 'hex'))).toBe(false);
  expect(bytes.includes(Buffer.from(other.tenantId.replaceAll('-', ''), 'hex'))).toBe(false);
});

test('an export with one flipped byte names the slice [R1-04]', () => {
  const file = join(scratch, 'ledger.export');
  const bytes = readFileSync(file);
  const at = bytes.indexOf(Buffer.from(customer.subscriptionId.replaceAll('-', ''), 'hex'));
  bytes.writeUInt8(bytes.readUInt8(at + 20) ^ 1, at + 20);
  writeFileSync(file, bytes);
  const { code, text } = penstock(['verify', '--export', file]);
  expect(code).toBe(1);
  expect(text).toContain(`slice of tenant ${customer.tenantId}`);
});

test('one flipped byte of a stored slice is named [R1-04]', async () => {
  const { rows } = await world.sql.query<{ epoch: number; seq: bigint; partition: string }>(
    `SELECT epoch, seq, tableoid::regclass::text AS partition FROM ledger_slice WHERE tenant_id = $1 ORDER BY epoch, seq LIMIT 1`,
    [customer.tenantId],
  );
  const row = rows[0]!;
  await world.sql.query(`ALTER TABLE ${row.partition} DISABLE TRIGGER append_only`);
  await world.sql.query(
    `UPDATE ${row.partition} SET payload = set_byte(payload, length(payload) - 1, get_byte(payload, length(payload) - 1) # 1)
     WHERE tenant_id = $1 AND epoch = $2 AND seq = $3`,
    [customer.tenantId, row.epoch, row.seq],
  );
  const { code, text } = penstock(['--data', world.stack.paths.dir, 'verify']);
  expect(code).toBe(1);
  expect(text).toContain(`WRONG at epoch ${row.epoch} seq ${row.seq}, slice of tenant ${customer.tenantId}`);
});

test('the command signs in, makes and shows what there is, in tables and in JSON', async () => {
  const base = ['--api', world.stack.edges.api, '--data', world.stack.paths.dir];
  expect(penstock([...base, 'login', '--email', 'owner@example.test'], 'wrong password\n')).toMatchObject({
    code: 1,
  });
  expect(penstock([...base, 'login', '--email', 'owner@example.test'], `${PASSWORD}\n`)).toMatchObject({
    code: 0,
  });
  const made = penstock([...base, '--json', 'tenant', 'create', 'Third']);
  const { tenantId } = JSON.parse(made.text) as { tenantId: string };
  expect(penstock([...base, 'tenant', 'list']).text).toContain('Third');
  expect(penstock([...base, 'use', tenantId])).toMatchObject({ code: 0 });
  const plan = penstock([
    ...base,
    '--json',
    'plan',
    'create',
    'Small',
    '--limit',
    '50MB',
    '--group',
    world.nodeGroupId,
  ]);
  const { planId } = JSON.parse(plan.text) as { planId: string };
  const subscription = penstock([...base, '--json', 'subscription', 'create', 'Customer', '--plan', planId]);
  const { subscriptionId } = JSON.parse(subscription.text) as { subscriptionId: string };
  await world.confirmed({ subscriptionId, tenantId }, 'grant');
  expect(penstock([...base, 'usage', subscriptionId]).text).toContain('50.0 MB');
  expect(penstock([...base, 'subscription', 'enforcement', subscriptionId]).text).toContain(
    'confirmed on 1 of 1 nodes',
  );
  expect(penstock([...base, 'node', 'list']).text).toContain('one');
  expect(penstock([...base, 'subscription', 'access', subscriptionId]).text).toContain('vless://');
  expect(penstock([...base, 'subscription', 'update', subscriptionId, '--limit', '1GB'])).toMatchObject({
    code: 0,
  });
  expect(penstock([...base, 'subscription', 'show', other.subscriptionId])).toMatchObject({ code: 1 });
  expect(penstock([...base, 'db', 'url']).text).toContain('postgresql://penstock_reader:');
  expect(penstock([...base, 'plan', 'create', 'Bad', '--limit', '-1'])).toMatchObject({ code: 1 });
});
