import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { adminStates, hasAccess } from '@penstock/domain/terms';
import { evaluate, type QuotaFacts } from './evaluate.js';

const at = new Date('2026-03-01T12:00:00Z');
const base: QuotaFacts = {
  adminState: 'active',
  tenantState: 'active',
  expiresAt: null,
  at,
  limitBytes: 1_000n,
  counterBytes: 0n,
  observedBytes: 0n,
  poolExceeded: false,
  onHold: false,
};

describe('effective state', () => {
  it.each<[string, Partial<QuotaFacts>, string, string]>([
    ['nothing used', {}, 'active', ''],
    ['one byte below the limit', { counterBytes: 999n }, 'active', ''],
    ['exactly the limit', { counterBytes: 1_000n }, 'limited', 'quota'],
    [
      'observed by a collector, counter behind',
      { counterBytes: 10n, observedBytes: 1_000n },
      'limited',
      'quota',
    ],
    ['counter ahead of what was observed', { counterBytes: 1_001n, observedBytes: 10n }, 'limited', 'quota'],
    ['no limit', { limitBytes: null, counterBytes: 2n ** 62n }, 'active', ''],
    ['a limit of nothing', { limitBytes: 0n }, 'limited', 'quota'],
    ['expires now', { expiresAt: at }, 'expired', 'expired'],
    ['expires in a millisecond', { expiresAt: new Date(at.getTime() + 1) }, 'active', ''],
    ['expired and over the limit', { expiresAt: at, counterBytes: 5_000n }, 'expired', 'expired'],
    ['tenant suspended', { tenantState: 'suspended' }, 'disabled', 'tenant_suspended'],
    ['disabled by an admin', { adminState: 'disabled', tenantState: 'suspended' }, 'disabled', 'disabled'],
    ['the tenant’s pool used up', { poolExceeded: true }, 'limited', 'pool'],
    [
      'over its own limit and the pool used up',
      { poolExceeded: true, counterBytes: 1_000n },
      'limited',
      'quota',
    ],
    ['not started', { onHold: true }, 'on_hold', 'on_hold'],
    ['not started, and the pool used up', { onHold: true, poolExceeded: true }, 'limited', 'pool'],
    ['not started, and its own end has come', { onHold: true, expiresAt: at }, 'expired', 'expired'],
    ['deleted', { adminState: 'deleted', expiresAt: at }, 'disabled', 'deleted'],
  ])('%s', (_name, facts, state, reason) => {
    expect(evaluate({ ...base, ...facts })).toMatchObject({ state, reason });
  });

  const bytes = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });
  const facts: fc.Arbitrary<QuotaFacts> = fc.record({
    adminState: fc.constantFrom(...adminStates),
    tenantState: fc.constantFrom('active' as const, 'suspended' as const),
    expiresAt: fc.option(fc.date({ noInvalidDate: true })),
    at: fc.date({ noInvalidDate: true }),
    limitBytes: fc.option(bytes),
    counterBytes: bytes,
    observedBytes: bytes,
    poolExceeded: fc.boolean(),
    onHold: fc.boolean(),
  });

  it('never lets anybody back in when the counter is lower than what was observed', () => {
    fc.assert(
      fc.property(facts, bytes, (one, lower) => {
        const observed = evaluate(one).usedBytes;
        const again = evaluate({ ...one, counterBytes: lower, observedBytes: observed });
        if (!hasAccess(evaluate(one).state)) expect(hasAccess(again.state)).toBe(false);
        expect(again.usedBytes >= observed).toBe(true);
      }),
    );
  });

  it('never gives access to more than an active subscription below its limit and before its end', () => {
    fc.assert(
      fc.property(facts, (one) => {
        const active =
          one.adminState === 'active' &&
          one.tenantState === 'active' &&
          !one.poolExceeded &&
          (one.expiresAt === null || one.expiresAt > one.at) &&
          (one.limitBytes === null ||
            (one.counterBytes < one.limitBytes && one.observedBytes < one.limitBytes));
        expect(hasAccess(evaluate(one).state)).toBe(active);
      }),
    );
  });

  it('a raised limit lets back in, a lowered one never does', () => {
    fc.assert(
      fc.property(facts, bytes, (one, limit) => {
        const before = evaluate(one);
        const after = evaluate({ ...one, limitBytes: limit });
        if (one.limitBytes === null || limit <= one.limitBytes) {
          if (!hasAccess(before.state)) expect(hasAccess(after.state)).toBe(false);
        } else if (hasAccess(before.state)) expect(hasAccess(after.state)).toBe(true);
      }),
    );
  });
});
