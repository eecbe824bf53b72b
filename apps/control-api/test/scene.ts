// One of everything in one tenant, made through the API as its admin would.
import { randomBytes, randomUUID } from 'node:crypto';
import { newId } from '@penstock/domain/ids';
import { seedStatement } from '@penstock/testkit/statement-seed';
import { expect } from 'vitest';
import type { Answer, Person, World } from './world.js';

export interface Scene {
  admin: Person;
  nodeGroupId: string;
  nodeId: string;
  joinTokenId: string;
  planId: string;
  subscriptionId: string;
  deviceId: string;
  invitationId: string;
  webhookId: string;
  deliveryId: string;
  passkeyId: string;
  /** An API key; a machine token has an id of the same name. */
  keyId: string;
  'machine-tokens.keyId': string;
  identityProviderId: string;
  statementId: string;
}

/** POST that must work; its body. */
export async function make(
  world: World,
  as: Person,
  path: string,
  body: object,
): Promise<Record<string, never>> {
  const answer = await world.ask('POST', path, { as, body });
  expect(answer.body, `POST ${path}`).not.toHaveProperty('code');
  expect(answer.status).toBeLessThan(300);
  return answer.body;
}

export const vless = { engine: 'xray', port: 443, security: 'none' };
export const reality = {
  ...{ engine: 'xray', tag: 'reality', port: 8443, security: 'reality' },
  ...{ serverNames: ['www.example.com'], target: 'www.example.com:443' },
};
export const wireguard = { engine: 'wireguard', port: 51820, subnets: ['10.66.0.0/16'] };

export const planTerms = {
  ...{ name: 'Ten gigabytes', limitBytes: '10000000000', period: 'month', durationDays: 30 },
  ...{ deviceLimit: 2, engines: ['xray', 'wireguard'] },
};

export async function scene(world: World, admin: Person): Promise<Scene> {
  const group = await make(world, admin, '/api/v1/node-groups', { name: 'all' });
  const node = await make(world, admin, '/api/v1/nodes', {
    ...{ name: 'n1', address: 'n1.example.org', inbounds: [vless, wireguard] },
    nodeGroupIds: [group['nodeGroupId']],
  });
  const plan = await make(world, admin, '/api/v1/plans', {
    ...planTerms,
    nodeGroupIds: [group['nodeGroupId']],
  });
  const subscription = await make(world, admin, '/api/v1/subscriptions', {
    planId: plan['planId'],
    name: 'customer',
  });
  const path = `/api/v1/subscriptions/${String(subscription['subscriptionId'])}/devices`;
  const device = await make(world, admin, path, { name: 'phone' });
  const joinToken = await make(world, admin, `/api/v1/nodes/${String(node['nodeId'])}/join-tokens`, {});
  const more = await others(world, admin);
  return {
    ...{ admin, ...more },
    ...{ nodeGroupId: group['nodeGroupId'], nodeId: node['nodeId'], planId: plan['planId'] },
    joinTokenId: joinToken['joinTokenId'],
    ...{ subscriptionId: subscription['subscriptionId'], deviceId: device['deviceId'] },
  } as unknown as Scene;
}

/** What stands beside the customers' side: people, keys, webhooks. */
async function others(world: World, admin: Person): Promise<Record<string, string>> {
  const invitation = await make(world, admin, '/api/v1/invitations', {
    ...{ email: `${randomUUID()}@example.org`, role: 'auditor' },
  });
  const scopes = { name: 'integration', scopes: ['subscription.read'] };
  const key = await make(world, admin, '/api/v1/api-keys', scopes);
  const machine = await make(world, admin, '/api/v1/machine-tokens', scopes);
  const webhook = await make(world, admin, '/api/v1/webhooks', {
    ...{ name: 'hook', url: 'https://hooks.example.org/a', events: ['subscription.*'] },
  });
  const [deliveryId, passkeyId] = [newId(), newId()];
  await world.sql(
    `INSERT INTO webhook_delivery (tenant_id, delivery_id, webhook_id, type, body, state, next_at, created_at, done_at)
     VALUES ($1, $2, $3, 'webhook.ping', '{}', 'failed', now(), now(), now())`,
    [admin.tenantId, deliveryId, webhook['webhookId']],
  );
  await world.sql(
    `INSERT INTO passkey (account_id, passkey_id, credential_id, public_key, sign_count, name, synced, created_at)
     VALUES ($1, $2, $3, '', 0, 'key', false, now())`,
    [admin.accountId, passkeyId, randomBytes(16)],
  );
  const client = { query: (text: string, values: unknown[]) => world.sql(text, values) };
  const statement = { tenantId: admin.tenantId, month: '2026-09', lines: 1 };
  const { statementId } = await seedStatement(client as never, statement);
  const identityProviderId: string = newId();
  await world.sql(
    `WITH provider AS (
       INSERT INTO identity_provider (tenant_id, identity_provider_id, name, issuer, client_id, secret_sealed, enabled, created_at)
       VALUES ($1, $2, 'SSO', 'https://sso.example.com', 'penstock', '', false, now()))
     INSERT INTO identity_link (tenant_id, identity_provider_id, issuer, subject, account_id, created_at)
     VALUES ($1, $2, 'https://sso.example.com', 'somebody', $3, now())`,
    [admin.tenantId, identityProviderId, admin.accountId],
  );
  return {
    ...{ invitationId: String(invitation['invitationId']), webhookId: String(webhook['webhookId']) },
    ...{ keyId: String(key['keyId']), 'machine-tokens.keyId': String(machine['keyId']) },
    ...{ deliveryId, passkeyId, identityProviderId, statementId },
  };
}

export type { Answer };
