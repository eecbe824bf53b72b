// Forged identity: 10,000 mutations of good tokens, seeded, and not one is taken. Part of G10; the races on one join
// token are in v25.test.ts, the certificates in packages/rpc.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import { AccessTokens } from '../../apps/control-api/src/auth/access-token.js';
import { createWorld, type Person, type World } from '../../apps/control-api/test/world.js';

const MUTATIONS = 10_000;
const OVER_HTTP = 500;
const SEED = 20_240_517;
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
let world: World;
let people: Person[];

beforeAll(async () => {
  world = await createWorld({ clock: new FakeClock(Date.now()) });
  const tenant = await world.tenant();
  people = [await world.person(world.platform, 'owner'), await world.person(tenant, 'auditor')];
});
afterAll(() => world.close());

/** Mulberry32: the same mutations in every run. */
function randomFrom(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

type Mutation = (token: string, other: string, random: (below: number) => number) => string;

const decoded = (part: string): Record<string, unknown> =>
  JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>;
const encoded = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
const parts = (token: string): [string, string, string] => token.split('.') as [string, string, string];

const mutations: Record<string, Mutation> = {
  'one character': (token, _other, random) => {
    const at = random(token.length);
    return token.slice(0, at) + ALPHABET[random(64)] + token.slice(at + 1);
  },
  'one character away': (token, _other, random) => {
    const at = random(token.length);
    return token.slice(0, at) + token.slice(at + 1);
  },
  'one character more': (token, _other, random) => {
    const at = random(token.length + 1);
    return token.slice(0, at) + ALPHABET[random(64)] + token.slice(at);
  },
  'two neighbours swapped': (token, _other, random) => {
    const at = random(token.length - 1);
    return token.slice(0, at) + token[at + 1] + token[at] + token.slice(at + 2);
  },
  'one bit': (token, _other, random) => {
    const three = parts(token);
    const which = random(3);
    const bytes = Buffer.from(three[which] as string, 'base64url');
    const at = random(bytes.length);
    bytes[at] = (bytes[at] as number) ^ (1 << random(8));
    three[which] = bytes.toString('base64url');
    return three.join('.');
  },
  'cut short': (token, _other, random) => token.slice(0, random(token.length)),
  'parts of two tokens': (token, other, random) => {
    const [a, b] = [parts(token), parts(other)];
    const mixed = [0, 1, 2].map((i) => (random(2) === 0 ? a : b)[i]);
    return mixed.join('.');
  },
  'another claim': (token, _other, random) => {
    const [head, payload, signature] = parts(token);
    const claims = decoded(payload);
    const names = Object.keys(claims);
    const name = names[random(names.length)] as string;
    const values = [
      null,
      0,
      2 ** 53,
      '',
      'x',
      world.platform,
      people[1]?.accountId,
      [claims[name]],
      { a: 1 },
      true,
    ];
    claims[name] = values[random(values.length)];
    return `${head}.${encoded(claims)}.${signature}`;
  },
  'another header': (token, _other, random) => {
    const [head, payload, signature] = parts(token);
    const header = decoded(head);
    const names = ['alg', 'typ', 'kid', 'jwk', 'crit', 'b64'];
    const values = ['none', 'HS256', 'mt+jwt', '', null, 0, ['exp'], { kty: 'oct', k: '' }, false];
    header[names[random(names.length)] as string] = values[random(values.length)];
    return `${encoded(header)}.${payload}.${signature}`;
  },
  'another signature': (token, _other, random) => {
    const [head, payload, signature] = parts(token);
    const [r, s] = [signature, signature].map((text, i) =>
      Buffer.from(text, 'base64url').subarray(i * 32, i * 32 + 32),
    ) as [Buffer, Buffer];
    const number = BigInt(`0x${s.toString('hex')}`);
    const bytesOf = (value: bigint): Buffer => Buffer.from(value.toString(16).padStart(64, '0'), 'hex');
    const zero = Buffer.alloc(32);
    const choices = [
      Buffer.concat([r, bytesOf(ORDER - number)]),
      ...[Buffer.concat([zero, zero]), Buffer.concat([r, zero]), Buffer.concat([zero, s])],
      ...[Buffer.concat([s, r]), Buffer.concat([r, s, zero]), r, Buffer.concat([Buffer.of(0), r, s])],
      Buffer.concat([Buffer.of(0x30, 68, 2, 32), r, Buffer.of(2, 32), s]),
      Buffer.concat([bytesOf(ORDER), bytesOf(ORDER)]),
      Buffer.from(Array.from({ length: 64 }, () => random(256))),
    ];
    return `${head}.${payload}.${(choices[random(choices.length)] as Buffer).toString('base64url')}`;
  },
  'another writing of the same': (token, _other, random) => {
    const [head, payload, signature] = parts(token);
    const last = signature.at(-1) as string;
    const spare = ALPHABET[(ALPHABET.indexOf(last) & 0x30) | (1 + random(15))] as string;
    const writings = [
      `${head}.${payload}.${signature}=`,
      `${head}.${payload}.${signature}==`,
      `${head}=.${payload}.${signature}`,
      `${head}.${payload}.${signature.slice(0, -1)}${spare}`,
      `${head}.${payload}.${signature}.`,
      `.${head}.${payload}.${signature}`,
      `${head}..${payload}.${signature}`,
      `${head}.${payload}.${signature}.${signature}`,
      Buffer.from(token).toString('base64url'),
      `${encoded({ ...decoded(head), extra: 1 })}.${payload}.${signature}`,
      `${Buffer.from(JSON.stringify(decoded(head), null, 1)).toString('base64url')}.${payload}.${signature}`,
    ];
    return writings[random(writings.length)] as string;
  },
};

describe('forged tokens', () => {
  test(`${MUTATIONS} mutated tokens: none is accepted [G10]`, { timeout: 120_000 }, async () => {
    const tokens = world.app.get(AccessTokens);
    const random = randomFrom(SEED);
    const good = new Set(people.map((person) => person.token));
    const kinds = Object.entries(mutations);
    const seen = new Set<string>();
    const forged: { kind: string; text: string }[] = [];
    while (forged.length < MUTATIONS) {
      const [kind, mutate] = kinds[random(kinds.length)] as [string, Mutation];
      const which = random(2);
      const [token, other] = [people[which] as Person, people[1 - which] as Person];
      const text = mutate(token.token, other.token, random);
      if (good.has(text)) continue;
      seen.add(text);
      forged.push({ kind, text });
    }
    expect(seen.size).toBeGreaterThan(MUTATIONS / 2);
    const accepted: string[] = [];
    for (const { kind, text } of forged) {
      const taken = await tokens.verify(text).then(
        () => true,
        (error: { code?: string }) => error.code !== 'unauthenticated',
      );
      if (taken) accepted.push(`${kind}: ${text}`);
    }
    expect(accepted).toEqual([]);
    // And through the door: text that a header can carry.
    const some = forged.filter(({ text }) => /^[\x21-\x7e]+$/.test(text)).slice(0, OVER_HTTP);
    for (const { kind, text } of some) {
      expect((await world.ask('GET', '/api/v1/auth/me', { as: text })).status, kind).toBe(401);
    }
    for (const person of people) {
      expect((await world.ask('GET', '/api/v1/auth/me', { as: person })).status).toBe(200);
    }
  });
});
