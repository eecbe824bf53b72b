import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { ChangeKind, type ChangeResult } from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import { newId, type SubscriptionId, type TenantId } from '@penstock/domain/ids';
import { accessDigest } from '@penstock/ledger/state-digest';
import { bytesOfId, keyOfId } from './access.js';
import { backoffMs } from './backoff.js';
import { judge, planDelta, planReturn, splitEntries, type OpenOrder, type PendingChange } from './plan.js';

const tenantId = newId<TenantId>();
const ids = Array.from({ length: 6 }, () => newId<SubscriptionId>());
const id = fc.constantFrom(...ids);
const access = fc.option(fc.uint8Array({ minLength: 1, maxLength: 20 }).map((bytes) => Buffer.from(bytes)));

function change(subscriptionId: SubscriptionId, bytes: Buffer | null): PendingChange {
  return {
    tenantId,
    subscriptionId,
    cause: 'edit',
    causedAt: new Date(0),
    generation: newId(),
    access: bytes,
  };
}

function open(subscriptionId: SubscriptionId, kind: 'grant' | 'cut', revision = 1n): OpenOrder {
  return { tenantId, subscriptionId, kind, revision };
}

function held(of: ReadonlyMap<SubscriptionId, Buffer>): Map<string, Buffer> {
  return new Map([...of].map(([sub, bytes]) => [keyOfId(sub), accessDigest(bytesOfId(sub), bytes)]));
}

describe('the next delta', () => {
  it('is what differs, each subscription once, and everything that fitted is settled', () => {
    const state = fc.dictionary(
      id,
      access.filter((bytes) => bytes !== null),
    );
    fc.assert(
      fc.property(
        state,
        fc.uniqueArray(fc.tuple(id, access), { selector: ([sub]) => sub }),
        (before, wanted) => {
          const has = new Map(Object.entries(before) as [SubscriptionId, Buffer][]);
          const pending = wanted.map(([sub, bytes]) => change(sub, bytes));
          const plan = planDelta(held(has), pending, [], [], 1_000_000);
          expect(plan.settled).toEqual(pending);
          for (const entry of plan.upserts) has.set(idOf(entry.subscriptionId), entry.access);
          for (const removal of plan.removals) has.delete(idOf(removal));
          for (const [sub, bytes] of wanted) expect(has.get(sub) ?? null).toEqual(bytes);
          const named = [...plan.upserts.map((u) => u.subscriptionId), ...plan.removals].map((b) =>
            b.toString('hex'),
          );
          expect(new Set(named).size).toBe(named.length);
          expect(plan.orders).toHaveLength(named.length);
        },
      ),
    );
  });

  it('leaves for the next one what does not fit', () => {
    const pending = ids.map((sub) => change(sub, Buffer.alloc(100)));
    const plan = planDelta(new Map(), pending, [], [], 300);
    expect(plan.upserts).toHaveLength(2);
    expect(plan.settled).toEqual(pending.slice(0, 2));
  });

  it('carries an unproven cut again, unless something newer took its place', () => {
    const [a, b] = ids as [SubscriptionId, SubscriptionId];
    const again = [a, b].map((sub) => ({ order: open(sub, 'cut'), access: null }));
    const orders = again.map(({ order }) => order);
    expect(planDelta(new Map(), [], again, orders, 1_000).moved).toEqual(orders);
    const plan = planDelta(new Map(), [change(a, Buffer.from('x'))], again, orders, 1_000);
    expect(plan.moved).toEqual([orders[1]]);
    expect(plan.superseded).toEqual([orders[0]]);
  });
});

describe('a node that comes back', () => {
  it('gets each open order once, in the form that holds now', () => {
    const order = fc.record({
      sub: id,
      kind: fc.constantFrom('grant' as const, 'cut' as const),
      revision: fc.bigInt(1n, 9n),
    });
    fc.assert(
      fc.property(
        fc.uniqueArray(order, { selector: (o) => `${o.sub}${o.revision}` }),
        fc.dictionary(
          id,
          access.filter((bytes) => bytes !== null),
        ),
        fc.uniqueArray(id),
        (orders, desired, changed) => {
          const opened = orders.map((o) => open(o.sub, o.kind, o.revision));
          const wanted = new Map(Object.entries(desired).map(([sub, bytes]) => [keyOfId(sub), bytes]));
          const plan = planReturn(
            wanted,
            changed.map((sub) => change(sub, null)),
            opened,
          );
          expect(new Set([...plan.moved, ...plan.superseded])).toEqual(new Set(opened));
          const carried = [...plan.moved, ...plan.orders].map((o) => o.subscriptionId);
          expect(new Set(carried).size).toBe(carried.length);
          for (const { subscriptionId, kind } of [...plan.moved, ...plan.orders]) {
            expect(kind).toBe(wanted.has(keyOfId(subscriptionId)) ? 'grant' : 'cut');
          }
          for (const sub of changed) expect(plan.digests.has(keyOfId(sub))).toBe(true);
        },
      ),
    );
  });
});

describe('what an acknowledgement proves', () => {
  const [sub] = ids as [SubscriptionId];
  const cut = (patch: Partial<ChangeResult> = {}): ChangeResult => ({
    ...{
      subscriptionId: bytesOfId(sub),
      kind: ChangeKind.CHANGE_KIND_CUT,
      ended: true,
      sessionsEnded: 1,
      cutUs: 10,
    },
    ...{ provenUs: 20, reason: '', engine: 'xray', ...patch },
  });

  const grant = (patch: Partial<ChangeResult> = {}): ChangeResult =>
    cut({ kind: ChangeKind.CHANGE_KIND_GRANT, ended: false, sessionsEnded: 0, ...patch });

  it.each<[string, 'grant' | 'cut', ChangeResult[], boolean, string]>([
    ['a cut that ended', 'cut', [cut()], true, 'confirmed'],
    ['a cut that ended on both engines', 'cut', [cut(), cut({ engine: 'wireguard' })], true, 'confirmed'],
    [
      'a cut that ended on one engine only',
      'cut',
      [cut(), cut({ ended: false, reason: 'open socket' })],
      true,
      'unproven',
    ],
    ['a cut without a word', 'cut', [], true, 'unproven'],
    ['a cut that ended, while another entry of the node differs', 'cut', [cut()], false, 'confirmed'],
    ['a grant that was applied', 'grant', [], true, 'confirmed'],
    ['a grant with another digest', 'grant', [], false, 'unproven'],
    ['a grant that the node refused', 'grant', [grant({ reason: 'too many devices' })], true, 'unproven'],
    ['a grant that holds, while another entry of the node differs', 'grant', [grant()], false, 'confirmed'],
    ['a grant that took an engine away without proof', 'grant', [cut({ ended: false })], true, 'unproven'],
  ])('%s', (_name, kind, results, applied, state) => {
    expect(judge([open(sub, kind)], results, applied, false, 'digest_mismatch')[0]?.state).toBe(state);
  });

  it('nothing is proven by a node that could not take the revision', () => {
    expect(judge([open(sub, 'cut')], [cut()], false, true, 'internal')[0]).toMatchObject({
      state: 'unproven',
      reason: 'internal',
    });
  });
});

it('a snapshot is split by size and loses nothing', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 400 })),
      fc.integer({ min: 100, max: 2_000 }),
      (sizes, max) => {
        const desired = new Map(
          sizes.map((size, n) => [n.toString(16).padStart(32, '0'), Buffer.alloc(size)]),
        );
        const parts = splitEntries(desired, max);
        expect(parts.flat().map((entry) => entry.subscriptionId.toString('hex'))).toEqual([
          ...desired.keys(),
        ]);
        for (const part of parts) {
          const bytes = part.reduce((sum, entry) => sum + entry.access.length + 16, 0);
          expect(part.length === 1 || bytes <= max).toBe(true);
        }
      },
    ),
  );
});

it('backoff grows to its bound and spreads out', () => {
  const rule = { firstMs: 100, maxMs: 1_000 };
  expect([1, 2, 3, 4, 5, 60].map((attempt) => backoffMs(rule, attempt, 0))).toEqual([
    50, 100, 200, 400, 500, 500,
  ]);
  expect(backoffMs(rule, 1, 0.999)).toBeLessThan(100);
});

function idOf(bytes: Buffer): SubscriptionId {
  const found = ids.find((one) => keyOfId(one) === bytes.toString('hex'));
  if (found === undefined) throw new Error('a subscription that nobody named');
  return found;
}
