// V42: what must be readable again is encrypted afresh each time and bound to its place: the same text never gives the
// same bytes, and bytes that are moved to another row, tenant or table do not open.
import { randomBytes } from 'node:crypto';
import { afterAll, describe, expect, test } from 'vitest';
import { openSecret, sealSecret } from '@penstock/service/secret-box';
import { FakeClock } from '@penstock/domain/clock';
import { setUpApp } from '../../apps/control-api/test/authenticator-app.js';
import { signIn, withPassword } from '../../apps/control-api/test/sign-in.js';
import { createWorld, type World } from '../../apps/control-api/test/world.js';

describe('V42 encryption at rest', () => {
  const clock = new FakeClock(Date.now());
  let world: World | undefined;
  afterAll(() => world?.close());

  const key = randomBytes(32);
  const place = { table: 'totp', tenant: 'a', row: '1' };

  test('the same text twice gives different bytes, a thousand times, with a nonce of its own each', () => {
    const sealed = Array.from({ length: 1000 }, () => sealSecret(key, Buffer.from('the same text'), place));
    expect(new Set(sealed.map((bytes) => bytes.toString('hex'))).size).toBe(1000);
    expect(new Set(sealed.map((bytes) => bytes.subarray(1, 13).toString('hex'))).size).toBe(1000);
    // No block of two ciphertexts is alike: not a single run of 8 bytes occurs twice.
    const runs = sealed.flatMap((bytes) => [13, 21].map((at) => bytes.subarray(at, at + 8).toString('hex')));
    expect(new Set(runs).size).toBe(runs.length);
    for (const bytes of sealed) expect(openSecret(key, bytes, place).toString()).toBe('the same text');
  });

  test('moved to another row, tenant or table, under another key, or with one bit changed it does not open', () => {
    const sealed = sealSecret(key, Buffer.from('a secret'), place);
    for (const other of [{ row: '2' }, { tenant: 'b' }, { table: 'inbound' }]) {
      expect(() => openSecret(key, sealed, { ...place, ...other })).toThrow(/does not open/);
    }
    // Names that run into each other are still different places.
    expect(() => openSecret(key, sealed, { table: 'tot', tenant: 'pa', row: '1' })).toThrow(/does not open/);
    expect(() => openSecret(randomBytes(32), sealed, place)).toThrow(/does not open/);
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const changed = Buffer.from(sealed);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(() => openSecret(key, changed, place)).toThrow(/does not open/);
    }
    for (let length = 0; length < sealed.length; length++) {
      expect(() => openSecret(key, sealed.subarray(0, length), place)).toThrow(/does not open/);
    }
  });

  test('an authenticator’s secret that is copied to another account’s row lets nobody in there', async () => {
    world = await createWorld({ clock });
    const tenantId = await world.tenant('one');
    const [thief, victim] = [
      await withPassword(world, tenantId, 'operator'),
      await withPassword(world, tenantId, 'operator'),
    ];
    const app = await setUpApp(world, (await signIn(world, thief)).accessToken, thief.password);
    await setUpApp(world, (await signIn(world, victim)).accessToken, victim.password);
    await world.sql(
      `UPDATE totp SET secret = (SELECT secret FROM totp WHERE account_id = $1) WHERE account_id = $2`,
      [thief.accountId, victim.accountId],
    );
    clock.advance(30_000);
    const answer = await signIn(world, victim, { code: app.code() });
    expect(answer.body).toMatchObject({ status: 500, code: 'internal' });
    expect(answer.text).not.toContain('totp');
    expect((await signIn(world, thief, { code: app.code() })).status).toBe(200);
  });
});
