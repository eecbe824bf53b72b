// What must be there before a mutation can do its work: for each handler whose example is refused, or has nothing to do,
// in a scene as it was made. The walk over all mutations (idempotency.test.ts) thereby sees each of them have its effect.
import { randomUUID } from 'node:crypto';
import type { Ids } from './attacks.js';
import { codeAt, setUpApp } from './authenticator-app.js';
import { SoftwarePasskey } from './authenticator.js';
import { make, type Scene } from './scene.js';
import { PASSWORD, withPassword, type Login } from './sign-in.js';
import type { Person, World } from './world.js';

/** What is different from the scene's example. */
export interface Ready {
  ids?: Ids;
  body?: object;
  /** Somebody else than the scene's admin. */
  as?: Person;
}

type Prepare = (world: World, own: Scene) => Promise<Ready>;

const somebody = (world: World, { admin }: Scene): Promise<Login> =>
  withPassword(world, admin.tenantId, 'operator');

/** About another member than the one who asks. */
const colleague: Prepare = async (world, { admin }) => {
  const { accountId } = await world.person(admin.tenantId, 'auditor');
  return { ids: { accountId } };
};

const tenant =
  (state: 'active' | 'suspended'): Prepare =>
  async (world) => {
    const tenantId = await world.tenant(randomUUID());
    await world.sql(`UPDATE tenant SET state = $2 WHERE tenant_id = $1`, [tenantId, state]);
    return { ids: { tenantId } };
  };

const freshGroup: Prepare = async (world, { admin }) => {
  const { nodeGroupId } = await make(world, admin, '/api/v1/node-groups', { name: 'fresh' });
  return { ids: { nodeGroupId: String(nodeGroupId) } };
};

const node =
  (state: 'drain' | 'revoked'): Prepare =>
  async (world, { nodeId }) => {
    await world.sql(`UPDATE node SET state = $2 WHERE node_id = $1`, [nodeId, state]);
    return {};
  };

const withApp: Prepare = async (world, own) => {
  const as = await somebody(world, own);
  const { recoveryCodes } = await setUpApp(world, as.token, as.password);
  return { as, body: { password: PASSWORD, recoveryCode: recoveryCodes[0] } };
};

export const prepare: Readonly<Record<string, Prepare>> = {
  'PasswordController.makeLink': colleague,
  'PasswordController.change': async (world, own) => ({
    ...{ as: await somebody(world, own), body: { current: PASSWORD, new: 'another long sentence' } },
  }),
  'MembersController.change': colleague,
  'MembersController.remove': colleague,
  'SessionsController.endOfMember': colleague,
  'AccountsController.disable': colleague,
  'TotpController.begin': async (world, own) => ({
    ...{ as: await somebody(world, own), body: { password: PASSWORD } },
  }),
  'TotpController.confirm': async (world, own) => {
    const as = await somebody(world, own);
    const { secret } = await make(world, as, '/api/v1/me/totp', { password: PASSWORD });
    return { as, body: { code: codeAt(String(secret), world.context.clock.now()) } };
  },
  'TotpController.renewCodes': withApp,
  'TotpController.remove': withApp,
  'PasskeysController.add': async (world, own) => {
    const as = await somebody(world, own);
    const options = await make(world, as, '/api/v1/me/passkeys/options', { password: PASSWORD });
    const { PUBLIC_URL } = world.context.config;
    const passkey = new SoftwarePasskey(new URL(PUBLIC_URL).origin, new URL(PUBLIC_URL).hostname);
    return { as, body: { name: 'Phone', credential: passkey.create(options) } };
  },
  'PasskeysController.addOptions': async (world, own) => ({
    ...{ as: await somebody(world, own), body: { password: PASSWORD } },
  }),
  'InvitationsController.join': async (world, { admin }) => {
    const as = await world.person(await world.tenant(randomUUID()), 'operator');
    const invitation = { email: `${as.accountId}@example.org`, role: 'auditor' };
    const { link } = await make(world, admin, '/api/v1/invitations', invitation);
    return { as, body: { token: String(link).split('#')[1] } };
  },
  'TenantsController.suspend': tenant('active'),
  'TenantsController.resume': tenant('suspended'),
  'OwnTenantController.change': async () => ({ body: { name: randomUUID() } }),
  'NodeGroupsController.delete': freshGroup,
  'NodeGroupsController.addNode': freshGroup,
  'NodesController.activate': node('drain'),
  'NodesController.delete': node('revoked'),
  'NodesController.approve': async (world, { nodeId }) => {
    await world.sql(
      `INSERT INTO reattest_request (node_id, public_key_hash, expired_at, asked_at, address)
       VALUES ($1, decode(repeat('ab', 32), 'hex'), now() - interval '8 days', now(), '192.0.2.1')`,
      [nodeId],
    );
    return { body: { keyFingerprint: 'ab'.repeat(32) } };
  },
  'NodesController.releaseStream': async (world, { nodeId }) => {
    await world.sql(
      `INSERT INTO stream_head (node_id, epoch, seq, digest, fence, holder, accepted_at, frozen_at, frozen_reason)
       VALUES ($1, 3, 77, '', 1, '', now(), now(), 'frame_fork')`,
      [nodeId],
    );
    return {};
  },
  'QuarantineController.release': async (world, { admin, nodeId, subscriptionId }) => {
    await world.sql(
      `INSERT INTO usage_quarantine (tenant_id, node_id, epoch, seq, subscription_id, engine, up_bytes, down_bytes, reason, created_at)
       VALUES ($1, $2, 1, 1, $3, 1, 1000, 1000, 'above_link_rate', now())`,
      [admin.tenantId, nodeId, subscriptionId],
    );
    return {};
  },
  'ActsController.activate': async (world, { admin, planId }) => {
    const waiting = { planId, name: 'later', onHold: true };
    const { subscriptionId } = await make(world, admin, '/api/v1/subscriptions', waiting);
    return { ids: { subscriptionId: String(subscriptionId) } };
  },
  'ActsController.enable': async (world, { admin, subscriptionId }) => {
    await make(world, admin, `/api/v1/subscriptions/${subscriptionId}/disable`, {});
    return {};
  },
  // The one that signs next: what has signed is still needed by everybody in this world.
  'SigningKeysController.retire': async (world, { admin }) => {
    const { body } = await world.ask('GET', '/api/v1/signing-keys', { as: admin });
    const keys = body['items'] as unknown as { kid: string; state: string }[];
    return { ids: { kid: keys.find(({ state }) => state === 'next')?.kid ?? '' } };
  },
};
