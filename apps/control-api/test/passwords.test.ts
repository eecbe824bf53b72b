import { afterEach, expect, test } from 'vitest';
import { hash } from '@node-rs/argon2';
import { HASHES_IN_FLIGHT_MAX, Passwords } from '../src/auth/passwords.js';

let passwords = new Passwords();
afterEach(async () => {
  await passwords.onModuleDestroy();
  passwords = new Passwords();
});

const CHEAP = { memoryCost: 1_024, timeCost: 2, parallelism: 1 };

test('of many passwords looked at together each has its own answer [R2-07]', async () => {
  const stored = await Promise.all(Array.from({ length: 20 }, (_, i) => hash(`password ${i}`, CHEAP)));
  const answers = await Promise.all(
    stored.map((one, i) => passwords.check(`password ${i % 2 === 0 ? i : i + 1}`, one)),
  );
  expect(answers.map(({ matches }) => matches)).toEqual(stored.map((_, i) => i % 2 === 0));
  expect(answers.every(({ rehash }) => rehash)).toBe(true);
});

test('a hash of today’s cost matches, is not made again, and another password does not match', async () => {
  const stored = await passwords.hash('correct horse battery');
  expect(await passwords.check('correct horse battery', stored)).toEqual({ matches: true, rehash: false });
  expect(await passwords.check('correct horse', stored)).toEqual({ matches: false, rehash: false });
});

test.each([
  ['of four terabytes', '$argon2id$v=19$m=4294967295,t=3,p=2$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2g'],
  ['of a million passes', '$argon2id$v=19$m=65536,t=999999,p=2$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2g'],
  ['of a cost that we do not know', '$argon2id$v=19$m=65536,t=3,p=2,x=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNo'],
  ['of another kind', '$2b$12$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234'],
  ['that is none', 'none'],
])('a stored hash %s costs what every other does and matches nothing', async (_what, stored) => {
  expect(await passwords.check('none', stored)).toMatchObject({ matches: false });
});

test('what waits when the process ends is told to come back, and starts nothing any more', async () => {
  await passwords.hash('warm');
  const all = Array.from({ length: HASHES_IN_FLIGHT_MAX + 6 }, () => passwords.hash('correct horse battery'));
  const settled = Promise.allSettled(all);
  await passwords.onModuleDestroy();
  for (const result of await settled)
    if (result.status === 'rejected') expect(result.reason).toMatchObject({ code: 'unavailable' });
  expect((await settled).filter(({ status }) => status === 'rejected').length).toBeGreaterThanOrEqual(6);
  await expect(passwords.hash('late')).rejects.toMatchObject({ code: 'unavailable' });
});
