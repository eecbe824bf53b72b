import { roles } from '@penstock/domain/terms';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { controllers } from '../src/app.module.js';
import { routesOf } from '../src/http/routes.js';
import { allows, permissions, type Permission } from '../src/permissions.js';
import { ABSENT, createWorld, type Person, type World } from './world.js';

let world: World;
let people: { person: Person; role: (typeof roles)[number]; platform: boolean }[];

beforeAll(async () => {
  world = await createWorld();
  const customer = await world.tenant();
  people = [];
  for (const role of roles) {
    people.push({ person: await world.person(customer, role), role, platform: false });
    people.push({ person: await world.person(world.platform, role), role, platform: true });
  }
});
afterAll(() => world.close());

test('the table of rights, as it stands [R2-04]', () => {
  const table = (Object.keys(permissions) as Permission[]).map((permission) => {
    const may = (platform: boolean): string =>
      roles.map((role) => (allows({ role, platform }, permission) ? role[0] + role[1] : '--')).join(' ');
    return `${permission.padEnd(24)} tenant ${may(false)}  platform ${may(true)}`;
  });
  expect(table).toMatchInlineSnapshot(`
    [
      "tenant.read              tenant -- -- -- --  platform ow ad op au",
      "tenant.create            tenant -- -- -- --  platform ow ad -- --",
      "tenant.update            tenant -- -- -- --  platform ow ad -- --",
      "tenant.suspend           tenant -- -- -- --  platform ow ad -- --",
      "own_tenant.read          tenant ow ad op au  platform ow ad op au",
      "own_tenant.update        tenant ow ad -- --  platform ow ad -- --",
      "member.read              tenant ow ad -- au  platform ow ad -- au",
      "member.update            tenant ow ad -- --  platform ow ad -- --",
      "member.delete            tenant ow ad -- --  platform ow ad -- --",
      "invitation.read          tenant ow ad -- au  platform ow ad -- au",
      "invitation.create        tenant ow ad -- --  platform ow ad -- --",
      "invitation.delete        tenant ow ad -- --  platform ow ad -- --",
      "settings.read            tenant -- -- -- --  platform ow ad op au",
      "settings.update          tenant -- -- -- --  platform ow -- -- --",
      "audit.read               tenant ow ad -- au  platform ow ad -- au",
      "plan.read                tenant ow ad op au  platform ow ad op au",
      "plan.create              tenant ow ad -- --  platform ow ad -- --",
      "plan.update              tenant ow ad -- --  platform ow ad -- --",
      "plan.delete              tenant ow ad -- --  platform ow ad -- --",
      "node_group.read          tenant ow ad op au  platform ow ad op au",
      "node_group.create        tenant ow ad -- --  platform ow ad -- --",
      "node_group.update        tenant ow ad -- --  platform ow ad -- --",
      "node_group.delete        tenant ow ad -- --  platform ow ad -- --",
      "node.read                tenant ow ad op au  platform ow ad op au",
      "node.create              tenant ow ad -- --  platform ow ad -- --",
      "node.update              tenant ow ad -- --  platform ow ad -- --",
      "node.revoke              tenant ow ad -- --  platform ow ad -- --",
      "node.approve             tenant ow ad -- --  platform ow ad -- --",
      "node.delete              tenant ow ad -- --  platform ow ad -- --",
      "stream.release           tenant ow ad -- --  platform ow ad -- --",
      "quarantine.read          tenant ow ad op au  platform ow ad op au",
      "quarantine.release       tenant ow ad -- --  platform ow ad -- --",
      "join_token.create        tenant ow ad -- --  platform ow ad -- --",
      "join_token.read          tenant ow ad op au  platform ow ad op au",
      "join_token.delete        tenant ow ad -- --  platform ow ad -- --",
      "subscription.read        tenant ow ad op au  platform ow ad op au",
      "subscription.create      tenant ow ad op --  platform ow ad op --",
      "subscription.update      tenant ow ad op --  platform ow ad op --",
      "subscription.delete      tenant ow ad op --  platform ow ad op --",
      "subscription.rotate      tenant ow ad op --  platform ow ad op --",
      "subscription.erase       tenant ow ad -- --  platform ow ad -- --",
      "subscription.secret.read tenant ow ad op --  platform ow ad op --",
      "device.create            tenant ow ad op --  platform ow ad op --",
      "device.update            tenant ow ad op --  platform ow ad op --",
      "device.delete            tenant ow ad op --  platform ow ad op --",
      "usage.read               tenant ow ad op au  platform ow ad op au",
      "statement.read           tenant ow ad op au  platform ow ad op au",
      "statement_key.rotate     tenant -- -- -- --  platform ow -- -- --",
      "enforcement.read         tenant ow ad op au  platform ow ad op au",
      "event.read               tenant ow ad op au  platform ow ad op au",
      "webhook.create           tenant ow ad -- --  platform ow ad -- --",
      "webhook.read             tenant ow ad -- --  platform ow ad -- --",
      "webhook.update           tenant ow ad -- --  platform ow ad -- --",
      "webhook.delete           tenant ow ad -- --  platform ow ad -- --",
      "signing_key.read         tenant -- -- -- --  platform ow -- -- --",
      "signing_key.rotate       tenant -- -- -- --  platform ow -- -- --",
      "api_key.create           tenant ow ad -- --  platform ow ad -- --",
      "api_key.read             tenant ow ad -- --  platform ow ad -- --",
      "api_key.delete           tenant ow ad -- --  platform ow ad -- --",
      "machine_token.create     tenant ow ad -- --  platform ow ad -- --",
      "machine_token.read       tenant ow ad -- --  platform ow ad -- --",
      "machine_token.delete     tenant ow ad -- --  platform ow ad -- --",
      "identity_provider.read   tenant ow ad -- --  platform ow ad -- --",
      "identity_provider.create tenant ow -- -- --  platform ow -- -- --",
      "identity_provider.update tenant ow -- -- --  platform ow -- -- --",
      "identity_provider.delete tenant ow -- -- --  platform ow -- -- --",
      "password_reset.create    tenant ow ad -- --  platform ow ad -- --",
      "member_session.delete    tenant ow ad -- --  platform ow ad -- --",
      "account.update           tenant -- -- -- --  platform ow ad -- --",
    ]
  `);
});

test('each role may what the ones below it may, and an auditor reads and changes nothing [R2-04]', () => {
  const mayRead = (permission: Permission): boolean => permission.endsWith('.read');
  for (const permission of Object.keys(permissions) as Permission[]) {
    for (const platform of [true, false]) {
      const may = (role: (typeof roles)[number]): boolean => allows({ role, platform }, permission);
      expect(may('owner') || !may('admin'), permission).toBe(true);
      expect(may('admin') || !may('operator'), permission).toBe(true);
      expect(may('admin') || !may('auditor'), permission).toBe(true);
      if (!mayRead(permission)) expect(may('auditor'), permission).toBe(false);
    }
  }
  // And no route that changes something asks for no more than a right to read.
  const changing = routesOf(controllers).filter((route) => !['GET', 'HEAD'].includes(route.method));
  expect(changing.length).toBeGreaterThan(50);
  for (const { handler, declaration } of changing) {
    if (declaration.access === 'public' || declaration.access === 'self') continue;
    expect(mayRead(declaration.access), handler).toBe(false);
  }
});

test(
  'over HTTP each role gets what the table says: 403 where it says no, something else where it says yes [R2-04]',
  { timeout: 120_000 },
  async () => {
    for (const route of routesOf(controllers)) {
      const { access } = route.declaration;
      if (access === 'public' || access === 'self') continue;
      const path = route.path.replace(/:\w+/g, ABSENT);
      for (const { person, role, platform } of people) {
        // An endless answer to those who may; events.test.ts reads it.
        if (route.declaration.contentType === 'text/event-stream' && allows({ role, platform }, access))
          continue;
        // An empty body is refused after the guard, so that nothing is made by those who may.
        const answer = await world.ask(route.method, path, {
          as: person,
          ...(route.body && { body: { no: 1 } }),
        });
        const said = answer.body['detail'] === `your role may not do this (${access})`;
        expect(said, `${role} ${route.handler}`).toBe(!allows({ role, platform }, access));
        expect(answer.status === 403, `${role} ${route.handler}`).toBe(said);
      }
    }
  },
);
