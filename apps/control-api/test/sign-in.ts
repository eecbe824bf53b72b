// People with a password, and signing them in as a browser would.
import { hash } from '@node-rs/argon2';
import type { FakeClock } from '@penstock/domain/clock';
import type { TenantId } from '@penstock/domain/ids';
import type { Role } from '@penstock/domain/terms';
import { AccessTokens } from '../src/auth/access-token.js';
import type { Answer, Person, World } from './world.js';

export const PASSWORD = 'correct horse battery staple';
const TODAY = { memoryCost: 64 * 1024, timeCost: 3, parallelism: 2 };

export interface Login extends Person {
  email: string;
  password: string;
}

/** A person of the tenant who has a password. */
export async function withPassword(
  world: World,
  tenantId: TenantId,
  role: Role,
  password = PASSWORD,
  parameters: Partial<typeof TODAY> = {},
): Promise<Login> {
  const person = await world.person(tenantId, role);
  await world.sql(`UPDATE account SET password_hash = $2 WHERE account_id = $1`, [
    person.accountId,
    await hash(password.normalize('NFKC'), { ...TODAY, ...parameters }),
  ]);
  return { ...person, email: `${person.accountId}@example.org`, password };
}

export interface SignedIn extends Answer {
  accessToken: string;
  refreshToken: string;
}

export async function signIn(
  world: World,
  { email, password }: Pick<Login, 'email' | 'password'>,
  more: object = {},
): Promise<SignedIn> {
  const answer = await world.ask('POST', '/api/v1/auth/sign-in', { body: { email, password, ...more } });
  const accessToken = String(answer.body['accessToken']);
  return { ...answer, accessToken, refreshToken: String(answer.body['refreshToken']) };
}

/** An hour passes: waits and limits are over, and so are access tokens; these people have new ones. */
export async function anHourLater(world: World, clock: FakeClock, ...people: Person[]): Promise<void> {
  clock.advance(3_600_000);
  for (const person of people) {
    const { accountId, tenantId, familyId } = person;
    person.token = await world.app.get(AccessTokens).issue(accountId, tenantId, familyId);
  }
}
