// One of everything in one tenant, made through the API as its admin would.
import { expect } from 'vitest';
import type { Answer, Person, World } from './world.js';

export interface Scene {
  admin: Person;
  nodeGroupId: string;
  nodeId: string;
  planId: string;
  subscriptionId: string;
  deviceId: string;
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
  return {
    admin,
    ...{ nodeGroupId: group['nodeGroupId'], nodeId: node['nodeId'], planId: plan['planId'] },
    ...{ subscriptionId: subscription['subscriptionId'], deviceId: device['deviceId'] },
  } as unknown as Scene;
}

/** All rows that a tenant could have changed, as one text: equal before and after when nothing was. */
export async function fingerprint(world: World, tenantId: string): Promise<string> {
  const tables = [
    'plan',
    'plan_node_group',
    'subscription',
    'device',
    'join_token',
    'credential_route',
    'audit_log',
    'access_change',
    'member',
  ];
  const parts = await Promise.all(
    tables.map((table) =>
      world.sql<{ text: string }>(
        `SELECT string_agg(t::text, '|' ORDER BY t::text) AS text FROM ${table} t WHERE tenant_id = $1`,
        [tenantId],
      ),
    ),
  );
  const owned = await Promise.all([
    world.sql<{ text: string }>(
      `SELECT string_agg(n::text || g::text, '|' ORDER BY n.node_id) AS text FROM node n
         LEFT JOIN node_group_node m USING (node_id) LEFT JOIN node_group g USING (node_group_id)
        WHERE n.owner_tenant_id = $1`,
      [tenantId],
    ),
    world.sql<{ text: string }>(
      `SELECT string_agg(i::text, '|' ORDER BY i.tag) AS text FROM inbound i JOIN node n USING (node_id)
        WHERE n.owner_tenant_id = $1`,
      [tenantId],
    ),
  ]);
  return JSON.stringify([...parts, ...owned]);
}

export type { Answer };
