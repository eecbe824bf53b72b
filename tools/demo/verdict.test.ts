import { expect, test } from 'vitest';
import type { Bytes } from './figures.js';
import { accountChecks, IN_FLIGHT_BYTES_MAX, judge, passed, type Account, type Course } from './verdict.js';

const bytes = (up: bigint, down: bigint): Bytes => ({ up, down });

const account = (change: Partial<Account> = {}): Account => ({
  label: 'B',
  engine: 'xray',
  client: bytes(10n, 100n),
  counted: bytes(10n, 100n),
  lastSeen: bytes(10n, 100n),
  ledger: bytes(10n, 100n),
  cut: false,
  ...change,
});

const course = (change: Partial<Course> = {}): Course => ({
  canEndSessions: true,
  quotaBytes: 100n,
  used: [
    { label: 'A', used: 110n, ledger: 110n, state: 'limited' },
    { label: 'B', used: 110n, ledger: 110n, state: 'active' },
  ],
  accounts: [account({ label: 'A', cut: true }), account()],
  order: {
    ...{
      kind: 'cut',
      cause: 'crossing',
      state: 'confirmed',
      sessionsEnded: 1,
      cutUs: 1,
      provenUs: 2,
      reason: '',
    },
    ...{ orderedMs: 1, acknowledgedMs: 2 },
  },
  endedAfterMs: new Map([['xray', 700]]),
  triedBytes: new Map([['xray', 0]]),
  neighbour: [
    {
      ...{ engine: 'xray', phase: 'streams', sentBytes: 0, receivedBytes: 0, payloadBytes: 0 },
      ...{ lastByteAtMs: 0, longestPauseMs: 40, endedAtMs: null },
    },
  ],
  ...change,
});

const holds = (one: Account): boolean => accountChecks(one).every(({ outcome }) => outcome === 'holds');

test.each<[string, Partial<Account>, boolean]>([
  ['all equal', {}, true],
  ['a byte in the engine that the ledger lacks', { counted: bytes(10n, 101n) }, false],
  ['a byte in the ledger that the engine never counted', { ledger: bytes(10n, 101n) }, false],
  ['one direction booked as the other', { ledger: bytes(11n, 99n) }, false],
  ['bytes in flight at the cut', { cut: true, client: bytes(10n, 60n) }, true],
  ['a byte that reached the client unbooked', { client: bytes(10n, 101n) }, false],
  ['an upload booked that the client did not send', { client: bytes(9n, 100n) }, false],
  ['more missing than can be in flight', { client: bytes(10n, 100n - IN_FLIGHT_BYTES_MAX - 1n) }, false],
  [
    'a removed peer, booked up to the device’s figures',
    { engine: 'wireguard', counted: null, cut: true },
    true,
  ],
  [
    'a removed peer whose last reading is not booked',
    { engine: 'wireguard', counted: null, cut: true, lastSeen: bytes(10n, 101n) },
    false,
  ],
  [
    'packets that a cut device sent in vain',
    { engine: 'wireguard', counted: null, cut: true, client: bytes(500n, 100n) },
    true,
  ],
])('%s', (_name, change, expected) => {
  expect(holds(account(change))).toBe(expected);
});

test('a run in which everything holds passes', () => {
  expect(judge(course()).filter(({ outcome }) => outcome !== 'holds')).toEqual([]);
});

const order = course().order;
const neighbour = course().neighbour[0];
test.each<[string, Partial<Course>]>([
  ['an unproven cut', { order: order && { ...order, state: 'unproven', reason: 'it said so' } }],
  ['no cut at all', { order: null }],
  ['a cut for another reason', { order: order && { ...order, cause: 'edit' } }],
  ['a session that goes on', { endedAfterMs: new Map([['xray', null]]) }],
  ['a new connection that gets in', { triedBytes: new Map([['xray', 1]]) }],
  ['a neighbour who paused', { neighbour: neighbour ? [{ ...neighbour, longestPauseMs: 1_001 }] : [] }],
  ['a neighbour whose connection ended', { neighbour: neighbour ? [{ ...neighbour, phase: 'ended' }] : [] }],
])('%s fails', (_name, change) => {
  expect(passed(judge(course(change)))).toBe(false);
});

test('a counter that differs from the ledger fails', () => {
  const used = course().used.map((one) => ({ ...one, used: one.used - 1n }));
  expect(passed(judge(course({ used })))).toBe(false);
});

test('where sockets cannot be destroyed an honest “unproven” passes and a claimed proof does not', () => {
  const without = { canEndSessions: false, endedAfterMs: new Map() };
  const honest = judge(
    course({ ...without, order: order && { ...order, state: 'unproven', reason: 'CAP_NET_ADMIN' } }),
  );
  expect(passed(honest)).toBe(true);
  expect(honest.some(({ outcome }) => outcome === 'not shown')).toBe(true);
  expect(passed(judge(course(without)))).toBe(false);
});
