import type { z } from 'zod';
import { expect, test } from 'vitest';
import '../src/http/validation.pipe.js';
import { changedProfile } from '../src/accounts/accounts.schema.js';
import { newApiKey } from '../src/api-keys/api-keys.schema.js';
import { newPassword } from '../src/auth/auth.schema.js';
import { newDevice } from '../src/devices/devices.schema.js';
import { acceptInvitation } from '../src/invitations/invitations.schema.js';
import { newMachineToken } from '../src/machine-tokens/machine-tokens.schema.js';
import { newNodeGroup } from '../src/node-groups/node-groups.schema.js';
import { newPlan } from '../src/plans/plans.schema.js';
import { newSubscription } from '../src/subscriptions/subscriptions.schema.js';
import { newTenant } from '../src/tenants/tenants.schema.js';
import { newWebhook } from '../src/webhooks/webhooks.schema.js';

/** Why the schema refuses the name; undefined when it does not. Everything else may be missing. */
function named(schema: z.ZodType, field: string, text: string): unknown {
  const refusal = schema.safeParse({ [field]: text }).error?.issues.find(({ path }) => path[0] === field);
  return refusal?.message;
}

const nouns: [string, z.ZodType, string][] = [
  ['tenant', newTenant, 'name'],
  ['plan', newPlan, 'name'],
  ['subscription', newSubscription, 'name'],
  ['API key', newApiKey, 'name'],
  ['machine token', newMachineToken, 'name'],
  ['webhook', newWebhook, 'name'],
  ['node group', newNodeGroup, 'name'],
  ['device', newDevice, 'name'],
  ['person', changedProfile, 'displayName'],
  ['invited person', acceptInvitation, 'displayName'],
];

test.each(nouns)('the name of a %s has something to see and nothing that hides', (_noun, schema, field) => {
  for (const blank of ['', '   ', '\t\n', '\u00A0\u3000', '\u3164', '\u2800', '\u0301']) {
    expect(named(schema, field, blank), JSON.stringify(blank)).toBe('must not be empty');
  }
  for (const hidden of ['\u202E', '\u202A', '\u2066', '\u2069', '\u200B', '\u200D', '\u2060', '\uFEFF']) {
    const told = named(schema, field, `a${hidden}b`);
    expect(told, hidden.codePointAt(0)?.toString(16)).toBe('must not hold invisible characters');
  }
  expect(named(schema, field, 'a\u0007b')).toBe('must not hold control characters');
  for (const good of ['Müller & Söhne', '日本', 'Ирина', 'علی', '7', '❤️']) {
    expect(named(schema, field, good), good).toBeUndefined();
  }
});

test('a name is kept without the blanks around it', () => {
  expect(newNodeGroup.parse({ name: '  Frank furt\u00A0\n' })).toEqual({ name: 'Frank furt' });
  expect(changedProfile.parse({ displayName: ' Ann ' })).toEqual({ displayName: 'Ann' });
  expect(newNodeGroup.parse({ name: ` ${'n'.repeat(100)} ` }).name).toHaveLength(100);
});

test('a password of blanks alone is refused; those around one are part of it', () => {
  expect(newPassword.safeParse(' '.repeat(14)).error?.issues[0]?.message).toBe('must not be spaces alone');
  expect(newPassword.safeParse('\u3000'.repeat(14)).success).toBe(false);
  expect(newPassword.parse('  a long word  ')).toBe('  a long word  ');
});
