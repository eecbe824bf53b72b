// The generated client against a real API: typed calls, errors with the API's code, one effect of a change whose answer
// was lost, renewal of a token, and live events.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ABSENT, createWorld, type Person, type World } from '../../../apps/control-api/test/world.js';
import { followEvents } from './events.js';
import { Client } from './gen/api.js';
import { ProblemError } from './transport.js';

describe('the client', () => {
  let world: World;
  let owner: Person;
  /** Requests as they left. */
  let sent: Request[];

  beforeAll(async () => {
    world = await createWorld();
    owner = await world.person(await world.tenant('own'), 'owner');
  });
  afterAll(() => world.close());

  /** `lose`: how many answers get lost on their way, after the API did what it was asked. */
  function client(lose = 0, token: () => string = () => owner.token): Client {
    sent = [];
    return new Client({
      baseUrl: world.url,
      credentials: { token },
      fetch: async (input, init) => {
        sent.push(new Request(input, init));
        const answer = await fetch(input, init);
        if (lose-- > 0) throw new TypeError('the connection broke');
        return answer;
      },
    });
  }

  async function refusal(call: Promise<unknown>): Promise<ProblemError> {
    const error = await call.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(ProblemError);
    return error as ProblemError;
  }

  test('a typed call sends what it is given and brings the API’s answer', async () => {
    const { nodeGroups } = client();
    const group = await nodeGroups.create({ name: 'first' });
    expect(await nodeGroups.get(group.nodeGroupId)).toEqual(group);
    const renamed = await nodeGroups.rename(group.nodeGroupId, { name: 'second' });
    expect(renamed).toMatchObject({ nodeGroupId: group.nodeGroupId, name: 'second' });
    expect(await nodeGroups.delete(group.nodeGroupId)).toBeUndefined();
    expect(sent.map(({ method }) => method)).toEqual(['POST', 'GET', 'PATCH', 'DELETE']);
  });

  test('every change carries an Idempotency-Key of its own, a read none', async () => {
    const { nodeGroups } = client();
    const { nodeGroupId } = await nodeGroups.create({ name: 'keyed' });
    await nodeGroups.get(nodeGroupId);
    await nodeGroups.rename(nodeGroupId, { name: 'keyed again' }, { idempotencyKey: 'mine' });
    await nodeGroups.delete(nodeGroupId);
    const keys = sent.map(({ headers }) => headers.get('idempotency-key'));
    expect(keys).toEqual([expect.stringMatching(/^[0-9a-f-]{36}$/), null, 'mine', expect.any(String)]);
    expect(keys[3]).not.toBe(keys[0]);
  });

  test('a change whose answers are lost is sent again with its key and has one effect', async () => {
    const group = await client(2).nodeGroups.create({ name: 'once' });
    expect(sent).toHaveLength(3);
    expect(new Set(sent.map(({ headers }) => headers.get('idempotency-key'))).size).toBe(1);
    const rows = await world.sql(`SELECT node_group_id FROM node_group WHERE name = 'once'`);
    expect(rows).toEqual([{ node_group_id: group.nodeGroupId }]);
    const error = await refusal(client(9).nodeGroups.create({ name: 'never heard' }));
    expect([error.status, error.code, sent.length]).toEqual([0, 'unavailable', 3]);
  });

  test('a refusal is a ProblemError with code, field and request', async () => {
    const { nodeGroups, webhooks } = client();
    const absent = await refusal(nodeGroups.get(ABSENT));
    expect(absent).toMatchObject({ status: 404, code: 'not_found' });
    expect(absent.requestId).toMatch(/\S/);
    const wrong = await refusal(webhooks.create({ name: 'x', url: 'http://example.org', events: ['*'] }));
    expect(wrong).toMatchObject({ status: 400, code: 'invalid_input', field: 'url' });
    const nobody = new Client({ baseUrl: world.url });
    expect(await refusal(nobody.nodeGroups.get(ABSENT))).toMatchObject({
      status: 401,
      code: 'unauthenticated',
    });
  });

  test('ifMatch: what was changed meanwhile is not overwritten', async () => {
    const { nodeGroups, plans } = client();
    const { nodeGroupId } = await nodeGroups.create({ name: 'of plans' });
    const plan = await plans.create({
      ...{ name: 'Small', limitBytes: '1', period: 'none', engines: ['xray'], nodeGroupIds: [nodeGroupId] },
    });
    await plans.change(plan.planId, { name: 'Smaller' }, { ifMatch: plan.version });
    const late = await refusal(plans.change(plan.planId, { name: 'Small' }, { ifMatch: plan.version }));
    expect(late).toMatchObject({ status: 412, code: 'failed_precondition' });
  });

  test('a refused token is renewed once, and the call goes on', async () => {
    let token = 'stale';
    let renewals = 0;
    const renewing = new Client({
      baseUrl: world.url,
      credentials: {
        token: () => token,
        renew: async () => {
          renewals++;
          token = owner.token;
          return Promise.resolve(true);
        },
      },
    });
    expect((await renewing.auth.whoami()).account.accountId).toBe(owner.accountId);
    expect(renewals).toBe(1);
  });

  test('all rows of a list come page by page', async () => {
    const { nodeGroups } = client();
    const made = new Set<string>();
    for (let i = 0; i < 5; i++) made.add((await nodeGroups.create({ name: `page ${i}` })).nodeGroupId);
    sent = [];
    for await (const { nodeGroupId } of nodeGroups.listAll({ limit: 2 })) made.delete(nodeGroupId);
    expect(made.size).toBe(0);
    expect(sent.length).toBeGreaterThanOrEqual(3);
  });

  test('live events: in order, once, through silence and broken connections, until the reader stops', async () => {
    const stop = new AbortController();
    const { transport, nodeGroups } = client();
    // Nothing for so long, and the connection is taken for dead: this one is opened again and again.
    const events = followEvents(transport, { signal: stop.signal, silenceMs: 700 });
    const names: unknown[] = [];
    const made = ['e1', 'e2', 'e3', 'e4'];
    let hellos = 0;
    for await (const { event, data } of events) {
      if (event === 'hello') {
        hellos++;
        const name = made[hellos - 1];
        if (name === undefined) stop.abort();
        else await nodeGroups.create({ name });
      }
      if (event === 'node_group.create') names.push(data.entityId);
    }
    const rows = await world.sql<{ id: string }>(
      `SELECT node_group_id AS id FROM node_group WHERE name LIKE 'e_' ORDER BY name`,
    );
    expect(names).toEqual(rows.map(({ id }) => id));
    expect(hellos).toBe(5);
  });

  test('live events: who may not read them is refused at once', async () => {
    const { transport } = client(0, () => 'nonsense');
    const events = followEvents(transport, {});
    expect(await refusal(events.next())).toMatchObject({ code: 'unauthenticated' });
  });
});
