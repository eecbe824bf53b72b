// Each command against a real API over a real database: it does what it says, its table holds what a person must copy,
// its --json is the API's answer, and what is refused ends with one sentence.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { scene, type Scene } from '../../control-api/test/scene.js';
import { withPassword, type Login } from '../../control-api/test/sign-in.js';
import { ABSENT, createWorld, type World } from '../../control-api/test/world.js';
import { Penstock } from './penstock.js';

type Rows = Record<string, unknown>[];

describe('penstock', () => {
  let world: World;
  let owner: Login;
  let own: Scene;
  let penstock: Penstock;

  beforeAll(async () => {
    world = await createWorld();
    owner = await withPassword(world, await world.tenant('Own Net'), 'owner');
    own = await scene(world, owner);
    penstock = new Penstock(world.url);
    const { code, err } = await penstock.run(['login', '--email', owner.email], owner.password);
    expect([code, err]).toEqual([0, '']);
  });
  afterAll(async () => {
    penstock.remove();
    await world.close();
  });

  /** What people read; it must work. */
  async function text(...args: string[]): Promise<string> {
    const { code, out, err } = await penstock.run(args);
    expect([code, err], args.join(' ')).toEqual([0, '']);
    return out;
  }

  test('--version names the version; --help every command', async () => {
    expect(await text('--version')).toMatch(/^\d+\.\d+\.\d+\n$/);
    const help = await text('--help');
    for (const name of ['member', 'invitation', 'webhook', 'events', 'tenant', 'subscription'])
      expect(help).toMatch(new RegExp(`^  ${name}\\b`, 'm'));
  });

  test('whoami and use: who, where, as what; permissions a line a noun', async () => {
    const me = await text('whoami');
    expect(me).toContain(owner.email);
    expect(me).toContain(`acting in Own Net (${owner.tenantId}) as owner`);
    expect(me).toMatch(/^ {2}plan +read, create, update, delete$/m);
    expect(me).not.toContain('{');
    expect(await text('use')).toContain(owner.tenantId);
    expect(JSON.parse(await text('use', '--json'))).toEqual([expect.objectContaining({ role: 'owner' })]);
    expect(await penstock.json('whoami')).toMatchObject({ role: 'owner', tenant: { name: 'Own Net' } });
  });

  test('member: listed, given another role, ended, reset and sent away, by e-mail or id', async () => {
    const { accountId, email, password } = await withPassword(world, owner.tenantId, 'operator');
    const his = new Penstock(world.url);
    expect((await his.run(['login', '--email', email], password)).code).toBe(0);
    const table = await text('member', 'list');
    expect(table).toContain(accountId);
    expect(table).toContain(email);
    const auditors = await penstock.json<Rows>('member', 'list', '--role', 'auditor');
    expect(auditors.some((member) => member['accountId'] === accountId)).toBe(false);
    await text('member', 'role', email.toUpperCase(), 'auditor');
    expect(await penstock.json('member', 'show', accountId)).toMatchObject({ email, role: 'auditor' });
    expect(await penstock.json('member', 'end-sessions', email)).toEqual({ ended: 1 });
    expect((await his.run(['whoami'])).code).toBe(1);
    his.remove();
    expect(await text('member', 'reset-password', email)).toMatch(/#prl1\.[^]*shown this once/);
    expect(await text('member', 'remove', email)).toContain(email);
    const gone = await penstock.run(['member', 'show', email]);
    expect(gone).toMatchObject({ code: 1, err: `penstock: ${email} is no member of this tenant\n` });
    // The last owner stays.
    const last = await penstock.run(['member', 'remove', owner.email]);
    expect([last.code, last.err]).toEqual([1, expect.stringMatching(/^penstock: .+\n$/)]);
  });

  test('invitation: the link is shown once and lets its bearer in; a revoked one does not', async () => {
    const made = await text('invitation', 'create', 'colleague@example.org', '--role', 'operator');
    const token = /#(pin1\.[\w-]+)/.exec(made)?.[1];
    expect(made).toContain('shown this once');
    const body = { token, password: 'an entirely new sentence', displayName: 'Colleague' };
    const joined = await world.ask('POST', '/api/v1/invitations/accept', { body });
    expect(joined.status, joined.text).toBe(200);
    const invited = await penstock.json('member', 'invite', 'other@example.org', '--role', 'auditor');
    expect(await text('invitation', 'list')).toContain(String(invited['invitationId']));
    expect(await text('invitation', 'revoke', invited['invitationId'])).toBe('revoked\n');
    const all = await penstock.json<Rows>('invitation', 'list');
    const stateOf = (email: string): unknown => all.find((one) => one['email'] === email)?.['state'];
    expect([stateOf('colleague@example.org'), stateOf('other@example.org')]).toEqual(['accepted', 'revoked']);
    expect(JSON.stringify(all)).not.toContain('#pin1');
  });

  test('webhook: made, switched, tested, looked into and deleted; its secret is shown once', async () => {
    const url = 'https://hooks.example.org/a-secret-path';
    const create = ['webhook', 'create', 'Billing', '--event', 'subscription.*', 'node.*', '--url', '-'];
    const made = await penstock.run(['--json', ...create], url);
    const { webhookId: id, secret } = JSON.parse(made.out) as { webhookId: string; secret: string };
    expect(secret).toMatch(/^whsec_/);
    const table = await text('webhook', 'list');
    expect(table).toContain(id);
    expect(table).not.toContain(secret);
    expect(table).not.toContain('a-secret-path');
    expect(await penstock.json('webhook', 'disable', id)).toMatchObject({ enabled: false });
    expect((await penstock.run(['webhook', 'test', id])).code).toBe(1);
    expect(await penstock.json('webhook', 'enable', id)).toMatchObject({ enabled: true });
    const changed = await penstock.json('webhook', 'update', id, '--name', 'Books', '--event', 'plan.*');
    expect(changed).toMatchObject({ name: 'Books', events: ['plan.*'] });
    const rotated = await penstock.json('webhook', 'rotate', id);
    expect(rotated['secret']).not.toBe(secret);
    // Nobody delivers here: it says so and does not wait for ever.
    const waited = await penstock.run(['webhook', 'test', id, '--wait', '0']);
    expect(waited).toMatchObject({ code: 1, out: expect.stringContaining('No answer yet') as string });
    const again = await penstock.run(['--json', 'webhook', 'test', id, '--wait', '0']);
    const tested = JSON.parse(again.out) as Record<string, unknown>;
    expect(tested).toMatchObject({ state: 'pending', attempts: 0 });
    expect(await text('webhook', 'deliveries', id)).toContain(String(tested['deliveryId']));
    expect(await text('webhook', 'redeliver', own.webhookId, own.deliveryId)).toBe('it is sent again\n');
    expect(await text('webhook', 'delete', id)).toBe('deleted\n');
    expect((await penstock.run(['webhook', 'show', id])).code).toBe(1);
  });

  test('subscription: every act, and limits as people write them', async () => {
    const { subscriptionId: id } = await penstock.json(
      ...['subscription', 'create', 'zoe', '--plan', own.planId, '--on-hold', '--external-ref', 'z-1'],
    );
    const list = await text('subscription', 'list', '--search', 'zoe');
    expect(list).toContain(String(id));
    expect(list).toContain('10.0 GB');
    expect(list).not.toContain('10000000000');
    expect(await text('subscription', 'show', id)).toContain('10000000000  (10.0 GB)');
    const act = (...words: string[]): Promise<Record<string, unknown>> =>
      penstock.json('subscription', words[0] ?? '', id, ...words.slice(1));
    expect(await act('activate')).toMatchObject({ onHold: false });
    expect(await act('disable')).toMatchObject({ adminState: 'disabled' });
    expect(await act('enable')).toMatchObject({ adminState: 'active' });
    for (const words of [
      ['reset'],
      ['renew'],
      ['renew', '--plan', own.planId],
      ['top-up', '5GB'],
      ['rotate'],
    ])
      expect(await act(...words), words.join(' ')).toMatchObject({ subscriptionId: id });
    expect(await text('subscription', 'acts', id)).toMatch(/top_up +5\.00 GB/);
    const never = await act('update', '--limit', 'unlimited', '--expires', 'never');
    expect(never).toMatchObject({ limitBytes: null, expiresAt: null });
    expect(await text('subscription', 'erase', id)).toContain('forgotten');
    expect(await act('show')).toMatchObject({ externalRef: null });
    const wrong = await penstock.run(['subscription', 'top-up', id, 'much']);
    expect(wrong).toMatchObject({ code: 1, err: expect.stringContaining('is not a number of bytes') });
  });

  test('subscription create-many: numbered, an id a line', async () => {
    const create = ['subscription', 'create-many', 'flat-{n}', '--plan', own.planId];
    const ids = (await text(...create, '--count', '3', '--first', '7')).trim().split('\n');
    const rows = await penstock.json<Rows>('subscription', 'list', '--search', 'flat-');
    expect(new Set(rows.map((row) => row['subscriptionId']))).toEqual(new Set(ids));
    expect(rows.map((row) => row['name']).sort()).toEqual(['flat-7', 'flat-8', 'flat-9']);
  });

  test('api-key and machine-token: shown once, within their scopes, revoked', async () => {
    for (const [kind, field] of Object.entries({ 'api-key': 'key', 'machine-token': 'token' })) {
      const made = await penstock.json<Record<string, string>>(
        kind,
        'create',
        'billing',
        '--scope',
        'plan.read',
      );
      const as = made[field] ?? '';
      expect((await world.ask('GET', '/api/v1/plans', { as })).status, kind).toBe(200);
      expect((await world.ask('GET', '/api/v1/nodes', { as })).status, kind).toBe(403);
      const table = await text(kind, 'list');
      expect(table).toContain(made['keyId']);
      expect(table).not.toContain(as);
      expect(await text(kind, 'revoke', made['keyId'] ?? '')).toBe('revoked\n');
      expect((await world.ask('GET', '/api/v1/plans', { as })).status, kind).toBe(401);
    }
  });

  test('subscription devices: listed, renamed, given new keys, removed', async () => {
    const { subscriptionId: id } = own;
    const device = await penstock.json('subscription', 'device', id, '--name', 'tablet');
    const { deviceId, publicKey } = device;
    expect(await text('subscription', 'devices', id)).toContain(String(deviceId));
    expect(await penstock.json('subscription', 'rename-device', id, deviceId, 'slate')).toMatchObject({
      name: 'slate',
    });
    const rotated = await penstock.json('subscription', 'rotate-device', id, deviceId);
    expect(rotated['publicKey']).not.toBe(publicKey);
    expect(await text('subscription', 'remove-device', id, deviceId)).toBe('removed\n');
    expect(await text('subscription', 'devices', id)).not.toContain(String(deviceId));
  });

  test('plan, group and join token: what is named second is meant second', async () => {
    expect(await text('plan', 'show', own.planId)).toContain('(10.0 GB)');
    expect(await text('group', 'remove', own.nodeGroupId, own.nodeId)).toBe('removed\n');
    expect(await text('group', 'add', own.nodeGroupId, own.nodeId)).toBe('added\n');
    expect(await text('node', 'revoke-token', own.nodeId, own.joinTokenId)).toBe('revoked\n');
    const plan = await penstock.json('plan', 'create', 'Short', '--limit', '1GB', '--group', own.nodeGroupId);
    expect(await text('plan', 'archive', plan['planId'])).toBe('archived\n');
  });

  test('what is done without an answer says so in JSON too', async () => {
    const group = await penstock.json('group', 'create', 'short-lived');
    expect(await penstock.json('group', 'delete', group['nodeGroupId'])).toEqual({ done: 'deleted' });
  });

  test('what is refused is one sentence that names the field once', async () => {
    const bad = await penstock.run(['subscription', 'create', 'x', '--plan', 'nothing']);
    expect(bad.code).toBe(1);
    expect(bad.err).toMatch(/^penstock: planId: .+\n$/);
    expect(bad.err.match(/planId/g)).toHaveLength(1);
    const absent = await penstock.run(['subscription', 'show', ABSENT]);
    expect([absent.code, absent.out]).toEqual([1, '']);
    expect(absent.err).toMatch(/^penstock: .+\n$/);
  });

  describe('for the platform', () => {
    let operator: Penstock;

    beforeAll(async () => {
      operator = new Penstock(world.url);
      const chief = await withPassword(world, world.platform, 'owner');
      await operator.run(['login', '--email', chief.email], chief.password);
    });
    afterAll(() => operator.remove());

    test('tenant: made, limited, suspended and resumed', async () => {
      const { tenantId: id } = await operator.json('tenant', 'create', 'Example Net', '--pool', '5TB');
      const updated = await operator.json(
        ...[
          'tenant',
          'update',
          id,
          '--subscriptions',
          '10',
          '--pool',
          'unlimited',
          '--time-zone',
          'Europe/Berlin',
        ],
      );
      expect(updated).toMatchObject({
        timeZone: 'Europe/Berlin',
        limits: { subscriptions: 10, poolBytes: null },
      });
      expect(await operator.json('tenant', 'suspend', id, '--reason', 'unpaid')).toMatchObject({
        state: 'suspended',
      });
      expect(await operator.json('tenant', 'resume', id)).toMatchObject({ state: 'active' });
    });

    test('settings and accounts, from whatever tenant one acts in', async () => {
      await operator.run(['use', owner.tenantId]);
      const set = await operator.json('settings', 'set', '--session-days', '20', '--support-name', 'Desk');
      expect(set).toMatchObject({ sessionDays: 20, supportName: 'Desk' });
      await operator.run(['settings', 'set', '--default-time-zone', 'Asia/Tokyo']);
      expect(await operator.json('tenant', 'create', 'Tokyo Net')).toMatchObject({ timeZone: 'Asia/Tokyo' });
      const { accountId } = await world.person(owner.tenantId, 'auditor');
      const disabled = await operator.json('account', 'disable', accountId);
      expect(disabled['disabledAt']).toMatch(/^\d{4}-/);
      expect(await operator.json('account', 'enable', accountId)).toMatchObject({ disabledAt: null });
      await operator.run(['use', 'platform']);
    });

    test('who acts in a customer’s tenant goes on managing the platform, and comes back by name', async () => {
      const used = await operator.run(['use', 'own net']);
      expect(used.out).toContain(`acting in Own Net (${owner.tenantId}) as owner`);
      expect(used.out).toContain('penstock use platform');
      const tenants = await operator.json<Rows>('tenant', 'list');
      expect(tenants.map((tenant) => tenant['tenantId'])).toContain(owner.tenantId);
      expect((await operator.json<Rows>('keys', 'list')).length).toBeGreaterThan(0);
      // What stands in the tenant is still the tenant's.
      const plans = await operator.json<Rows>('plan', 'list');
      expect(plans.map((plan) => plan['planId'])).toContain(own.planId);
      expect((await operator.json('whoami'))['tenant']).toMatchObject({ tenantId: owner.tenantId });
      await operator.run(['use', 'platform']);
      expect((await operator.json('whoami'))['tenant']).toMatchObject({ platform: true });
    });

    test('one who signed in for a customer’s tenant manages the platform as well', async () => {
      const chief = await withPassword(world, world.platform, 'owner');
      const other = new Penstock(world.url);
      await other.run(['login', '--email', chief.email, '--tenant', owner.tenantId], chief.password);
      expect((await other.json<Rows>('tenant', 'list')).length).toBeGreaterThan(0);
      other.remove();
    });

    test('a customer’s owner does not, and there is no such tenant for him', async () => {
      const refused = await penstock.run(['tenant', 'list']);
      expect([refused.code, refused.out]).toEqual([1, '']);
      const nowhere = await penstock.run(['use', 'platform']);
      expect(nowhere.err).toBe('penstock: you have no place in the platform\n');
      expect((await penstock.run(['use', 'Example Net'])).code).toBe(1);
      expect((await penstock.json('whoami'))['tenant']).toMatchObject({ tenantId: owner.tenantId });
    });
  });
});
