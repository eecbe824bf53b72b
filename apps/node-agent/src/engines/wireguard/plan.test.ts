import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Access } from '@penstock/domain/access';
import { newId } from '@penstock/domain/ids';
import type { DeviceId, SubscriptionId, TenantId } from '@penstock/domain/ids';
import { parseCidr } from '../address.js';
import type { PeerEntry } from './peer-book.js';
import { admittedBy, desiredPeersOf, indexPeers, planPeers } from './plan.js';
import type { DesiredPeer } from './plan.js';
import { newPeer, upsertMessages } from './uapi.js';
import type { EnginePeer } from './uapi.js';

const subnets = ['10.66.0.0/16', 'fd66::/64'].flatMap((text) => parseCidr(text) ?? []);
const TEXTS = process.env['PENSTOCK_TEST_FULL'] === undefined ? 5_000 : 50_000;
const tenantId = newId<TenantId>();

function access(...hosts: number[]): Access {
  return {
    tenantId,
    subscriptionId: newId<SubscriptionId>(),
    wireguard: hosts.map((host) => ({
      deviceId: newId<DeviceId>(),
      publicKey: randomBytes(32).toString('base64'),
      presharedKey: randomBytes(32).toString('base64'),
      allowedIps: [`10.66.1.${host}/32`, `fd66:0::${host.toString(16)}/128`],
    })),
  };
}

function engineHas(peer: DesiredPeer): EnginePeer {
  return { ...newPeer(peer.publicKey), presharedKey: peer.presharedKey, allowedIps: [...peer.allowedIps] };
}

const entryOf = (peer: DesiredPeer): PeerEntry => ({ ...peer.owner, nonce: '', boot: '' });

test('addresses shared between peers are refused, however they are written [V29]', () => {
  const one = access(2);
  const two = access(3);
  const stolen = two.wireguard?.[0];
  if (stolen === undefined) throw new Error('no peer');
  stolen.allowedIps = ['fd66:0:0:0:0:0:0:2/128'];
  const peers = [desiredPeersOf(one, subnets), desiredPeersOf(two, subnets)];
  expect(() => indexPeers(peers)).toThrow(/overlapping/);
  expect(() => desiredPeersOf(access(2, 2), subnets)).toThrow(/overlapping/);
});

test('of hostile text in keys and addresses nothing but keys and addresses reaches the engine [V31]', () => {
  const key = randomBytes(32).toString('base64');
  const inject = (text: string) =>
    fc.oneof(
      { weight: 3, arbitrary: fc.constant(text) },
      { weight: 2, arbitrary: fc.string({ unit: 'binary' }) },
      {
        weight: 2,
        arbitrary: fc
          .constantFrom('\n', '\r\n', '\nallowed_ip=0.0.0.0/0', '\nremove=true', ' ', '\0', '--', '\n\n')
          .map((tail) => text + tail),
      },
      { weight: 1, arbitrary: fc.constantFrom('-', '--x', '0.0.0.0/0', '::/0', '10.66.1.2/32,0.0.0.0/0') },
    );
  let taken = 0;
  fc.assert(
    fc.property(inject(key), inject(key), inject('10.66.1.2/32'), (publicKey, presharedKey, ip) => {
      const peer = { deviceId: newId<DeviceId>(), publicKey, presharedKey, allowedIps: [ip] };
      let peers;
      try {
        peers = desiredPeersOf({ ...access(), wireguard: [peer] }, subnets);
      } catch (error) {
        expect(error).toMatchObject({ code: 'invalid_input' });
        return;
      }
      taken += 1;
      expect(upsertMessages(peers, false)).toEqual([
        expect.stringMatching(
          /^set=1\npublic_key=[0-9a-f]{64}\npreshared_key=[0-9a-f]{64}\nreplace_allowed_ips=true\nallowed_ip=10\.66\.1\.2\/32\n\n$/,
        ),
      ]);
    }),
    { numRuns: TEXTS },
  );
  expect(taken).toBeGreaterThan(0);
});

test('a key or a device that occurs twice is refused', () => {
  const twice = access(2, 3);
  const [first, second] = twice.wireguard ?? [];
  if (first === undefined || second === undefined) throw new Error('no peers');
  const saved = second.publicKey;
  second.publicKey = first.publicKey;
  expect(() => desiredPeersOf(twice, subnets)).toThrow(/public key/);
  second.publicKey = saved;
  second.deviceId = first.deviceId;
  expect(() => desiredPeersOf(twice, subnets)).toThrow(/device twice/);
});

test('a plan, carried out, leaves nothing to do; counters of equal peers are never touched', () => {
  const states = fc.constantFrom('same', 'psk', 'ips', 'absent', 'stranger', 'otherOwner', 'leftover');
  fc.assert(
    fc.property(fc.array(states, { maxLength: 40 }), (kinds) => {
      const desired = new Map<string, DesiredPeer>();
      const engine = new Map<string, EnginePeer>();
      const book = new Map<string, PeerEntry>();
      for (const [at, kind] of kinds.entries()) {
        const [peer] = desiredPeersOf(access(at + 2), subnets);
        if (peer === undefined) continue;
        if (kind !== 'leftover') desired.set(peer.publicKey, peer);
        if (kind !== 'absent') engine.set(peer.publicKey, engineHas(peer));
        if (kind !== 'absent' && kind !== 'stranger') book.set(peer.publicKey, entryOf(peer));
        const held = engine.get(peer.publicKey);
        if (kind === 'psk' && held !== undefined) held.presharedKey = '0'.repeat(64);
        if (kind === 'ips' && held !== undefined) held.allowedIps = [];
        if (kind === 'otherOwner')
          book.set(peer.publicKey, { ...entryOf(peer), deviceId: newId<DeviceId>() });
      }
      const plan = planPeers(desired, engine, book);
      const count = (...names: string[]): number => kinds.filter((kind) => names.includes(kind)).length;
      expect(plan.remove).toHaveLength(count('stranger', 'otherOwner', 'leftover'));
      expect(plan.add).toHaveLength(count('absent', 'stranger', 'otherOwner'));
      expect(plan.update).toHaveLength(count('psk', 'ips'));
      for (const key of plan.remove) {
        engine.delete(key);
        book.delete(key);
      }
      for (const peer of [...plan.update, ...plan.add]) engine.set(peer.publicKey, engineHas(peer));
      for (const peer of plan.add) book.set(peer.publicKey, entryOf(peer));
      expect(planPeers(desired, engine, book)).toEqual({ remove: [], add: [], update: [] });
    }),
    { numRuns: 300 },
  );
});

test('what is read back equals what was desired, in any order and spelling of the engine', () => {
  const wanted = access(2, 3, 4);
  const peers = desiredPeersOf(wanted, subnets);
  const engine = new Map(
    [...peers]
      .reverse()
      .map((peer) => [peer.publicKey, { ...engineHas(peer), allowedIps: [...peer.allowedIps].reverse() }]),
  );
  const owners = new Map(peers.map((peer) => [peer.publicKey, peer.owner]));
  const ownerOf = (key: string) =>
    owners.get(key) ?? { tenantId, subscriptionId: wanted.subscriptionId, deviceId: newId<DeviceId>() };
  const admitted = admittedBy(engine, ownerOf, () => wanted);
  expect(admitted).toEqual(new Map([[wanted.subscriptionId, wanted]]));
  const stranger = newPeer('ee'.repeat(32));
  expect(admittedBy(new Map([...engine, [stranger.publicKey, stranger]]), ownerOf, () => wanted)).not.toEqual(
    admitted,
  );
});
