// `penstock statement key rotate`: an owner of the platform replaces the key, and both are listed.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { withPassword } from '../../control-api/test/sign-in.js';
import { createWorld, type World } from '../../control-api/test/world.js';
import { Penstock } from './penstock.js';

let world: World;
let penstock: Penstock;

beforeAll(async () => {
  world = await createWorld();
  penstock = new Penstock(world.url);
});
afterAll(async () => {
  penstock.remove();
  await world.close();
});

interface Keys {
  keyId: string;
  fingerprint: string;
  retiredAt: string | null;
}

test('a new key is shown with its fingerprint; the one before stays listed with its end', async () => {
  const owner = await withPassword(world, world.platform, 'owner');
  await penstock.run(['login', '--email', owner.email], owner.password);
  const first = await penstock.json<Keys>('statement', 'key', 'rotate');
  const shown = await penstock.run(['statement', 'key', 'rotate']);
  expect([shown.code, shown.err]).toEqual([0, '']);
  const listed = await penstock.json<Keys[]>('statement', 'keys');
  expect(listed.map((key) => [key.keyId === first.keyId, key.retiredAt === null])).toEqual([
    [false, true],
    [true, false],
  ]);
  expect(shown.out).toContain(listed[0]?.fingerprint ?? 'none');
});

test('a tenant’s owner is refused in one sentence', async () => {
  const owner = await withPassword(world, await world.tenant('own'), 'owner');
  const his = new Penstock(world.url);
  try {
    await his.run(['login', '--email', owner.email], owner.password);
    const { code, out, err } = await his.run(['statement', 'key', 'rotate']);
    expect([code, out]).toEqual([1, '']);
    expect(err).toMatch(/statement_key\.rotate/);
  } finally {
    his.remove();
  }
});
