// Meters: what an engine shows is counted once, through restarts of engines and agents, peers added again, lost state and
// falling values; and what a meter has been given always adds up to its cumulative (V46, V47, V48).
import { describe, expect, test } from 'vitest';
import fc from 'fast-check';
import { newId, type SubscriptionId } from '@penstock/domain/ids';
import { BYTES_MAX } from '@penstock/domain/terms';
import type { CounterReading } from '../engines/engine.js';
import { MeterBook, meterNumber, NO_ID, PRUNE_AFTER_READS, type Meter } from './meters.js';

const XRAY = 1;
const TENANT = Buffer.alloc(16, 0x11);
const tenantOf = (): Buffer => TENANT;
const subscriptions = Array.from({ length: 3 }, () => newId<SubscriptionId>());
const NONE = new Set<bigint>();

function reading(subscription: number, boot: number, up: bigint, down: bigint): CounterReading {
  const subscriptionId = subscriptions[subscription] as SubscriptionId;
  return { subscriptionId, deviceId: null, boot: boot.toString(16).padStart(32, '0'), up, down };
}

/** Seals everything pending and adds it up per meter, as the ledger does. */
function sealInto(book: MeterBook, ledger: Map<bigint, { up: bigint; down: bigint }>, seq: bigint): void {
  const { rows } = book.pending(1000, 100, NONE);
  for (const { row, opened } of rows) {
    const known = ledger.get(row.meter) ?? { up: 0n, down: 0n };
    expect(row.cumulativeUp - row.deltaUp).toBe(known.up);
    expect(row.cumulativeDown - row.deltaDown).toBe(known.down);
    expect(opened !== null).toBe(!ledger.has(row.meter));
    ledger.set(row.meter, { up: row.cumulativeUp, down: row.cumulativeDown });
  }
  book.sealed(rows, seq);
}

const total = (ledger: Map<bigint, { up: bigint; down: bigint }>): bigint =>
  [...ledger.values()].reduce((sum, one) => sum + one.up + one.down, 0n);

describe('readings', () => {
  test('of zero of a new life open nothing', () => {
    const book = new MeterBook();
    book.observe(XRAY, [reading(0, 1, 0n, 0n)], tenantOf);
    expect(book.size).toBe(0);
  });

  test('a new meter counts in full, then what moved', () => {
    const book = new MeterBook();
    const ledger = new Map<bigint, { up: bigint; down: bigint }>();
    book.observe(XRAY, [reading(0, 1, 5n, 7n)], tenantOf);
    sealInto(book, ledger, 1n);
    book.observe(XRAY, [reading(0, 1, 6n, 9n)], tenantOf);
    const { rows } = book.pending(10, 10, NONE);
    expect(rows[0]?.row).toMatchObject({ deltaUp: 1n, deltaDown: 2n, cumulativeUp: 6n, cumulativeDown: 9n });
    sealInto(book, ledger, 2n);
    expect(book.pending(10, 10, NONE).rows).toEqual([]);
  });

  test('another boot is another meter, and the old one keeps what it had', () => {
    const book = new MeterBook();
    const ledger = new Map<bigint, { up: bigint; down: bigint }>();
    book.observe(XRAY, [reading(0, 1, 100n, 100n)], tenantOf);
    book.observe(XRAY, [reading(0, 2, 3n, 3n)], tenantOf);
    sealInto(book, ledger, 1n);
    expect(total(ledger)).toBe(206n);
    expect(book.size).toBe(2);
  });

  test('the last reading of a removed peer and the first of the added one stand in one answer', () => {
    const book = new MeterBook();
    const ledger = new Map<bigint, { up: bigint; down: bigint }>();
    book.observe(XRAY, [reading(0, 1, 50n, 50n)], tenantOf);
    book.observe(XRAY, [reading(0, 1, 60n, 60n), reading(0, 2, 1n, 1n)], tenantOf);
    sealInto(book, ledger, 1n);
    expect(total(ledger)).toBe(122n);
  });

  test('a value that falls without reason opens a new meter and is told', () => {
    const book = new MeterBook();
    const ledger = new Map<bigint, { up: bigint; down: bigint }>();
    expect(book.observe(XRAY, [reading(0, 1, 100n, 100n)], tenantOf).fell).toBe(0);
    expect(book.observe(XRAY, [reading(0, 1, 99n, 200n)], tenantOf).fell).toBe(1);
    expect(book.observe(XRAY, [reading(0, 1, 99n, 200n)], tenantOf).fell).toBe(0);
    expect(book.observe(XRAY, [reading(0, 1, 0n, 0n)], tenantOf).fell).toBe(0);
    expect(book.observe(XRAY, [reading(0, 1, 1n, 0n)], tenantOf).fell).toBe(1);
    sealInto(book, ledger, 1n);
    expect(total(ledger)).toBe(200n + 299n + 1n);
    expect(book.size).toBe(3);
  });

  test('at the end of what can be stored they stop growing and are told [V48, R1-19]', () => {
    const book = new MeterBook();
    expect(book.observe(XRAY, [reading(0, 1, BYTES_MAX + 5n, 1n)], tenantOf).saturated).toBe(1);
    expect(book.observe(XRAY, [reading(0, 1, BYTES_MAX + 9n, 2n)], tenantOf)).toMatchObject({
      saturated: 1,
      fell: 0,
    });
    expect(book.pending(10, 10, NONE).rows[0]?.row).toMatchObject({ deltaUp: BYTES_MAX, deltaDown: 2n });
  });

  test('without a tenant nothing is sealed and nothing is lost', () => {
    const book = new MeterBook();
    expect(book.observe(XRAY, [reading(0, 1, 5n, 5n)], () => null).tenantless).toBe(1);
    expect(book.pending(10, 10, NONE).rows).toEqual([]);
    expect(book.observe(XRAY, [reading(0, 1, 8n, 8n)], tenantOf).tenantless).toBe(0);
    expect(book.pending(10, 10, NONE).rows[0]?.row).toMatchObject({ deltaUp: 8n, deltaDown: 8n });
    // Known once is known for the next life, also when the subscription is gone.
    book.observe(XRAY, [reading(0, 2, 1n, 1n)], () => null);
    expect(book.pending(10, 10, NONE).rows).toHaveLength(2);
  });
});

describe('lost state', () => {
  test('a counter seen again after a lost journal continues from the ledger, never in full [V46]', () => {
    const before = new MeterBook();
    const ledger = new Map<bigint, { up: bigint; down: bigint }>();
    before.observe(XRAY, [reading(0, 1, 1000n, 2000n)], tenantOf);
    sealInto(before, ledger, 1n);
    const after = new MeterBook();
    after.observe(XRAY, [reading(0, 1, 1005n, 2007n)], tenantOf);
    after.rebase(new Map([...before.all()].map((meter) => [meter.number, { ...meter }])));
    sealInto(after, ledger, 1n);
    expect(total(ledger)).toBe(3012n);
  });

  test('a rename of nothing: the same life has the same number everywhere', () => {
    const identity = {
      engine: 1,
      boot: Buffer.alloc(16, 1),
      subscription: Buffer.alloc(16, 2),
      device: NO_ID,
    };
    expect(meterNumber(identity, 0)).toBe(meterNumber({ ...identity }, 0));
    const others = [
      meterNumber(identity, 1),
      meterNumber({ ...identity, engine: 2 }, 0),
      meterNumber({ ...identity, boot: Buffer.alloc(16, 9) }, 0),
      meterNumber({ ...identity, subscription: Buffer.alloc(16, 9) }, 0),
      meterNumber({ ...identity, device: Buffer.alloc(16, 9) }, 0),
    ];
    expect(new Set([meterNumber(identity, 0), ...others]).size).toBe(6);
    for (const number of others) expect(number > 0n && number <= BYTES_MAX).toBe(true);
  });

  test('fallen meters continue as what they were after a restart', () => {
    const book = new MeterBook();
    const ledger = new Map<bigint, { up: bigint; down: bigint }>();
    book.observe(XRAY, [reading(0, 1, 100n, 0n)], tenantOf);
    book.observe(XRAY, [reading(0, 1, 40n, 0n)], tenantOf);
    sealInto(book, ledger, 1n);
    const again = new MeterBook();
    for (const meter of book.all()) again.load({ ...meter });
    expect(again.observe(XRAY, [reading(0, 1, 45n, 0n)], tenantOf).fell).toBe(0);
    sealInto(again, ledger, 2n);
    expect(total(ledger)).toBe(145n);
  });

  test('a meter of a dead life is forgotten when it is settled, and a living one never', () => {
    const book = new MeterBook();
    const ledger = new Map<bigint, { up: bigint; down: bigint }>();
    book.observe(XRAY, [reading(0, 1, 9n, 9n), reading(1, 1, 9n, 9n), reading(2, 1, 9n, 9n)], tenantOf);
    sealInto(book, ledger, 1n);
    book.observe(XRAY, [reading(2, 1, 10n, 10n)], tenantOf);
    for (let i = 0; i < PRUNE_AFTER_READS; i++) book.observe(XRAY, [reading(0, 1, 9n, 9n)], tenantOf);
    expect(book.prune(0n)).toBe(0);
    expect(book.prune(1n)).toBe(1);
    expect([...book.all()].map((meter) => meter.readUp).sort()).toEqual([10n, 9n].sort());
  });
});

test('any order of traffic, boots, seals, restarts and lost journals keeps every sum [V46, V47]', () => {
  const step = fc.oneof(
    { weight: 5, arbitrary: fc.tuple(fc.constant('move' as const), fc.nat(2), fc.nat(1000)) },
    { weight: 4, arbitrary: fc.tuple(fc.constant('read' as const), fc.nat(0), fc.nat(0)) },
    { weight: 3, arbitrary: fc.tuple(fc.constant('seal' as const), fc.nat(0), fc.nat(0)) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('boot' as const), fc.nat(2), fc.nat(0)) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('restart' as const), fc.nat(0), fc.nat(0)) },
    { weight: 1, arbitrary: fc.tuple(fc.constant('lost journal' as const), fc.nat(0), fc.nat(0)) },
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      let book = new MeterBook();
      const ledger = new Map<bigint, { up: bigint; down: bigint }>();
      const sealed = new Map<bigint, Meter>();
      const engine = subscriptions.map(() => ({ boot: 1, up: 0n }));
      let ended = 0n;
      let seq = 0n;
      const read = (): void => {
        book.observe(
          XRAY,
          engine.map((one, i) => reading(i, one.boot, one.up, 0n)),
          tenantOf,
        );
      };
      const seal = (): void => {
        sealInto(book, ledger, ++seq);
        for (const meter of book.all()) sealed.set(meter.number, { ...meter });
      };
      for (const [kind, which, amount] of steps) {
        const one = engine[which] as (typeof engine)[number];
        if (kind === 'move') one.up += BigInt(amount);
        if (kind === 'read') read();
        if (kind === 'seal') seal();
        if (kind === 'boot') {
          read();
          seal();
          ended += one.up;
          one.boot++;
          one.up = 0n;
        }
        if (kind === 'restart') {
          book = new MeterBook();
          for (const meter of sealed.values())
            book.load({ ...meter, readUp: meter.baseUp, readDown: meter.baseDown });
        }
        if (kind === 'lost journal') {
          book = new MeterBook();
          read();
          book.rebase(
            new Map(
              [...sealed].map(([number, meter]) => [
                number,
                { ...meter, readUp: meter.baseUp, readDown: meter.baseDown },
              ]),
            ),
          );
        }
      }
      read();
      seal();
      expect(total(ledger)).toBe(engine.reduce((sum, one) => sum + one.up, ended));
    }),
    { numRuns: 500 },
  );
});
