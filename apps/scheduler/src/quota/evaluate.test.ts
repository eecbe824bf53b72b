import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { adminStates } from '@penstock/domain/terms';
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
  });

  it('never lets anybody back in when the counter is lower than what was observed', () => {
    fc.assert(
      fc.property(facts, bytes, (one, lower) => {
        const observed = evaluate(one).usedBytes;
        const again = evaluate({ ...one, counterBytes: lower, observedBytes: observed });
        if (evaluate(one).state !== 'active') expect(again.state).not.toBe('active');
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
          (one.expiresAt === null || one.expiresAt > one.at) &&
          (one.limitBytes === null ||
            (one.counterBytes < one.limitBytes && one.observedBytes < one.limitBytes));
        expect(evaluate(one).state === 'active').toBe(active);
      }),
    );
  });

  it('a raised limit lets back in, a lowered one never does', () => {
    fc.assert(
      fc.property(facts, bytes, (one, limit) => {
        const before = evaluate(one);
        const after = evaluate({ ...one, limitBytes: limit });
        if (one.limitBytes === null || limit <= one.limitBytes) {
          if (before.state !== 'active') expect(after.state).not.toBe('active');
        } else if (before.state === 'active') expect(after.state).toBe('active');
      }),
    );
  });
});
