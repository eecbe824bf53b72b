import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createHash } from 'node:crypto';
import { FakeClock } from '@penstock/domain/clock';
import { parseJoinToken } from '@penstock/rpc/join-token';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { LocalNode } from '../src/local-node/local-node.js';
import { createWorld, type World } from './world.js';

const clock = new FakeClock(Date.now());
const directory = mkdtempSync(join(tmpdir(), 'local-node-'));
const file = join(directory, 'join-token');
let world: World;

beforeAll(async () => {
  const env = {
    LOCAL_NODE: '1',
    LOCAL_NODE_TOKEN_FILE: file,
    LOCAL_NODE_XRAY_PORT: '21443',
    LOCAL_NODE_WG_PORT: '21820',
  };
  world = await createWorld({ env, clock });
});
afterAll(async () => {
  world.app.get(LocalNode).stop();
  await world.close();
  rmSync(directory, { recursive: true });
});

const start = (): Promise<void> => world.app.get(LocalNode).start(world.platform);
const tokens = (): Promise<{ n: number }[]> => world.sql('SELECT count(*)::int AS n FROM join_token');

test('the first start registers a shared node with both engines and leaves a good token for its owner alone', async () => {
  await Promise.all([start(), start(), start()]);
  const nodes = await world.sql(
    `SELECT n.name, n.owner_tenant_id, g.name AS "group", array_agg(i.engine || ' ' || i.port ORDER BY i.tag) AS inbounds
       FROM node n JOIN node_group_node USING (node_id) JOIN node_group g USING (node_group_id) JOIN inbound i USING (node_id)
      GROUP BY 1, 2, 3`,
  );
  expect(nodes).toEqual([
    { name: 'local', owner_tenant_id: null, group: 'default', inbounds: ['xray 21443', 'wireguard 21820'] },
  ]);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const { secret } = parseJoinToken(readFileSync(file, 'utf8'));
  const hash = createHash('sha256').update(secret).digest();
  expect(await world.sql('SELECT kind, tenant_id FROM credential_route WHERE hash = $1', [hash])).toEqual([
    { kind: 'join_token', tenant_id: world.platform },
  ]);
});

test('a start with a good token makes none; one that is about to expire is replaced', async () => {
  const before = await tokens();
  const text = readFileSync(file, 'utf8');
  await start();
  expect(await tokens()).toEqual(before);
  clock.advance(51 * 60_000);
  await start();
  expect(readFileSync(file, 'utf8')).not.toBe(text);
});

test('the node follows its settings, and a node that was heard of gets no more tokens', async () => {
  await world.sql('UPDATE inbound SET port = 1 WHERE engine = $1', ['xray']);
  await world.sql(`INSERT INTO node_status SELECT node_id, now(), '0.1.0', 1, 0, '{}', 0, 0, 0, 0 FROM node`);
  const before = await tokens();
  const changes = await world.sql<{ n: number }>('SELECT count(*)::int AS n FROM access_change');
  clock.advance(3_600_000);
  await start();
  expect(await tokens()).toEqual(before);
  expect(await world.sql('SELECT port FROM inbound WHERE engine = $1', ['xray'])).toEqual([{ port: 21443 }]);
  expect(await world.sql('SELECT count(*)::int AS n FROM access_change')).toEqual([
    { n: (changes[0]?.n ?? 0) + 1 },
  ]);
});

test('a node that an operator renamed is still this one; after its revocation a new one is registered', async () => {
  const names = async (): Promise<string[]> =>
    (await world.sql<{ name: string }>('SELECT name FROM node ORDER BY node_id')).map((row) => row.name);
  const admin = await world.person(world.platform, 'admin');
  const page = await world.ask('GET', '/api/v1/nodes', { as: admin });
  const [node] = page.body['items'] as unknown as { nodeId: string }[];
  const body = { name: 'the box in the corner' };
  expect((await world.ask('PATCH', `/api/v1/nodes/${node?.nodeId ?? ''}`, { as: admin, body })).status).toBe(
    200,
  );
  await start();
  expect(await names()).toEqual(['the box in the corner']);
  await world.sql(`UPDATE node SET state = 'revoked'`);
  await start();
  expect(await names()).toEqual(['the box in the corner', 'local']);
  expect(statSync(`${file}.node`).mode & 0o777).toBe(0o600);
});
