// Whatever the sources write into the audit log, or tell by themselves, is in the closed list of events.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { eventNames, eventPatterns } from './event-names.js';

const repo = join(import.meta.dirname, '../../../..');
const sources = ['apps/control-api/src', 'apps/scheduler/src', 'apps/cli/src'].flatMap((dir) =>
  readdirSync(join(repo, dir), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
    .map((file) => readFileSync(join(repo, dir, file), 'utf8')),
);

test('every audited action is an event with a name', () => {
  const lines = sources.flatMap((text) => text.split('\n'));
  // One line may name two: `action: suspended ? 'tenant.suspend' : 'tenant.resume'`.
  const actions = lines
    .filter((line) => /\baction(?::| =) |audit\(acting, /.test(line))
    .flatMap((line) => [...line.matchAll(/'([a-z_]+(?:\.[a-z_]+)+)'/g)].map((match) => match[1]));
  expect(actions.length).toBeGreaterThan(60);
  expect(actions.filter((action) => action !== undefined && !eventNames.includes(action))).toEqual([]);
});

test('so is every event that a trigger writes', () => {
  const schema = readFileSync(join(repo, 'packages/db/schema.sql'), 'utf8');
  const states = /enforcement_state_check CHECK \(\(state = ANY \(ARRAY\[([^\]]+)\]/.exec(schema)?.[1] ?? '';
  const enforcement = [...states.matchAll(/'([a-z]+)'::text/g)].map(
    (match) => `enforcement.${match[1] ?? ''}`,
  );
  expect(enforcement.length).toBe(4);
  for (const name of [...enforcement, 'subscription.state', 'webhook.disabled'])
    expect(eventNames).toContain(name);
});

test('no name stands twice', () => {
  expect(new Set(eventPatterns).size).toBe(eventPatterns.length);
});
