import { expect, test } from 'vitest';
import type { NodeId } from '@penstock/domain/ids';
import type { Order, Wanted } from './enforcement.store.js';
import { summarize } from './summary.js';

const nodeId = '01890a5d-ac96-774b-bcce-b302099a8006' as NodeId;
const causedAt = new Date('2026-11-22T12:00:00Z');
const cut: Order = {
  ...{
    nodeId,
    kind: 'cut',
    cause: 'tenant',
    state: 'confirmed',
    revision: 4n,
    causedAt,
    orderedAt: causedAt,
  },
  ...{
    acknowledgedAt: new Date('2026-11-22T12:00:00.250Z'),
    cutUs: 1,
    provenUs: 2,
    sessionsEnded: 1,
    reason: '',
  },
};
const wanted: Wanted = {
  ...{ adminState: 'active', effectiveState: 'disabled', tenantState: 'active', nodeIds: [nodeId] },
};

test('the cut of a suspended tenant’s subscription is what was wanted', () => {
  const suspended: Wanted = { ...wanted, tenantState: 'suspended' };
  expect(summarize(suspended, [cut])).toMatchObject({ confirmed: 1, nodes: 1, ms: 250 });
});

test('an old cut confirms nothing for a subscription that was switched on again', () => {
  expect(summarize(wanted, [cut])).toMatchObject({ confirmed: 0, nodes: 1, ms: null });
});
