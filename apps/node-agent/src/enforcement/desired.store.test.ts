import { appendFile, mkdtemp, readFile, stat, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Access } from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import { beforeEach, expect, test } from 'vitest';
import { DesiredStore } from './desired.store.js';

let dir: string;
beforeEach(async () => {
  dir = join(await mkdtemp(join(tmpdir(), 'pst-desired-')), 'desired');
});

const id = (n: number): Buffer => Buffer.alloc(16, n);
const entry = (n: number) => ({
  subscriptionId: id(n),
  access: Buffer.from(
    Access.encode({
      tenantId: id(9),
      subscriptionId: id(n),
      xray: { vlessId: '00000000-0000-0000-0000-000000000001', flow: '' },
      wireguard: [],
    }).finish(),
  ),
});
const snapshot = (revision: bigint, ...entries: number[]) => ({
  ...{ revision, fence: 1n, config: Buffer.from('config'), digest: Buffer.alloc(32), more: false },
  entries: entries.map(entry),
});
const delta = (revision: bigint, upserts: number[], removals: number[] = []) => ({
  ...{ base: revision - 1n, revision, fence: 1n, config: Buffer.alloc(0), digest: Buffer.alloc(32) },
  upserts: upserts.map(entry),
  removals: removals.map(id),
});

test('a state survives a restart: snapshot, deltas, and whom the last one removed', async () => {
  const store = await DesiredStore.open(dir);
  await store.writeSnapshot(snapshot(1n, 1, 2));
  await store.writeDelta(delta(2n, [3]));
  await store.writeDelta(delta(3n, [], [1]));
  await store.close();
  const again = await DesiredStore.open(dir);
  expect(again.state.revision).toBe(3n);
  expect(again.state.entries.size).toBe(2);
  expect(again.state.lastRemovals).toHaveLength(1);
  await again.close();
  expect(((await stat(join(dir, 'desired.snapshot'))).mode & 0o777).toString(8)).toBe('600');
});

test('a record cut at any byte is as if it never was, and what is written behind it is kept', async () => {
  const store = await DesiredStore.open(dir);
  await store.writeSnapshot(snapshot(1n, 1));
  await store.writeDelta(delta(2n, [2]));
  await store.close();
  const log = join(dir, 'desired.log');
  const whole = await readFile(log);
  for (let length = 0; length < whole.length; length += 7) {
    await truncate(log, 0);
    await appendFile(log, whole.subarray(0, length));
    const torn = await DesiredStore.open(dir);
    expect(torn.state.revision).toBe(1n);
    await torn.writeDelta(delta(2n, [], [1]));
    await torn.close();
    const after = await DesiredStore.open(dir);
    expect([after.state.revision, after.state.entries.size]).toEqual([2n, 0]);
    await after.writeSnapshot(snapshot(1n, 1));
    await after.close();
  }
});

test('a log that cannot be written loses no later revision', async () => {
  const store = await DesiredStore.open(dir);
  await store.writeSnapshot(snapshot(1n, 1));
  const inner = store as unknown as { log: { appendFile: (bytes: Buffer) => Promise<void> } };
  const real = inner.log.appendFile.bind(inner.log);
  inner.log.appendFile = async (bytes) => {
    await real(bytes.subarray(0, 10));
    throw new Error('ENOSPC');
  };
  await expect(store.writeDelta(delta(2n, [2]))).rejects.toThrow('ENOSPC');
  expect(store.state.revision).toBe(1n);
  await store.writeDelta(delta(2n, [], [1]));
  await store.writeDelta(delta(3n, [3]));
  await store.close();
  const again = await DesiredStore.open(dir);
  expect([again.state.revision, [...again.state.entries.keys()].length]).toEqual([3n, 1]);
  await again.close();
});
