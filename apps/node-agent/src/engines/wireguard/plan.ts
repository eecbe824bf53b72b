// What has to happen to a device so that exactly the desired peers exist on it. Pure: desired × engine × book → plan.
import type { Access } from '@penstock/domain/access';
import { AppError } from '@penstock/domain/errors';
import type { SubscriptionId } from '@penstock/domain/ids';
import { isWireguardKey } from '@penstock/domain/wireguard-keys';
import { sameSecret } from '@penstock/service/secret-compare';
import { addressBits, contains, formatCidr, isReserved, parseCidr } from '../address.js';
import type { Cidr } from '../address.js';
import type { PeerEntry, PeerOwner } from './peer-book.js';
import type { EnginePeer, PeerSetting } from './uapi.js';
import { PEERS_MAX } from './uapi.js';

const DEVICES_PER_SUBSCRIPTION_MAX = 256;
const ADDRESSES_PER_DEVICE_MAX = 8;

/** A peer that shall exist; keys in hex, addresses in canonical text. */
export interface DesiredPeer extends PeerSetting {
  owner: PeerOwner;
}

export interface PeerPlan {
  /** To remove first. Their counters end. */
  remove: string[];
  /** To add after the removals, each with a new entry in the book. May name a removed peer again. */
  add: DesiredPeer[];
  /** Exist and keep their counters; another PSK or other addresses. */
  update: DesiredPeer[];
}

/** Checks one subscription's peers by themselves and brings them into the engine's form. Throws invalid_input. */
export function desiredPeersOf(access: Access, subnets: Cidr[]): DesiredPeer[] {
  const peers = access.wireguard ?? [];
  if (peers.length > DEVICES_PER_SUBSCRIPTION_MAX) throw invalid('wireguard', 'has too many devices');
  const result = peers.map((peer, at): DesiredPeer => {
    const field = `wireguard[${at}]`;
    if (!isWireguardKey(peer.publicKey)) throw invalid(`${field}.publicKey`, 'must be 32 bytes in base64');
    if (!isWireguardKey(peer.presharedKey))
      throw invalid(`${field}.presharedKey`, 'must be 32 bytes in base64');
    if (peer.allowedIps.length === 0 || peer.allowedIps.length > ADDRESSES_PER_DEVICE_MAX) {
      throw invalid(`${field}.allowedIps`, `must hold 1 to ${ADDRESSES_PER_DEVICE_MAX} addresses`);
    }
    return {
      owner: {
        tenantId: access.tenantId,
        subscriptionId: access.subscriptionId,
        deviceId: peer.deviceId,
      },
      publicKey: Buffer.from(peer.publicKey, 'base64').toString('hex'),
      presharedKey: Buffer.from(peer.presharedKey, 'base64').toString('hex'),
      allowedIps: peer.allowedIps.map((text) => hostAddress(text, subnets, `${field}.allowedIps`)),
    };
  });
  indexPeers([result]);
  return result;
}

function hostAddress(text: string, subnets: Cidr[], field: string): string {
  const cidr = parseCidr(text);
  if (cidr === null || cidr.prefix !== addressBits(cidr.family))
    throw invalid(field, 'must be host addresses');
  const subnet = subnets.find((candidate) => contains(candidate, cidr));
  if (subnet === undefined) throw invalid(field, "must lie in the node's subnets");
  if (isReserved(subnet, cidr)) throw invalid(field, 'must not be the address of the node or the network');
  return formatCidr(cidr);
}

/**
 * All desired peers by public key. Throws invalid_input when two of them share a key, a device or an address:
 * WireGuard would silently take the address from one and give it to the other.
 */
export function indexPeers(subscriptions: Iterable<DesiredPeer[]>): Map<string, DesiredPeer> {
  const byKey = new Map<string, DesiredPeer>();
  const addresses = new Set<string>();
  const devices = new Set<string>();
  for (const peers of subscriptions) {
    for (const peer of peers) {
      const device = `${peer.owner.subscriptionId}/${peer.owner.deviceId}`;
      if (byKey.has(peer.publicKey)) throw invalid('wireguard', 'has a public key that another device uses');
      if (devices.has(device)) throw invalid('wireguard', 'names a device twice');
      for (const ip of peer.allowedIps) {
        if (addresses.has(ip))
          throw invalid('wireguard', 'has overlapping allowedIps: an address has one peer');
        addresses.add(ip);
      }
      byKey.set(peer.publicKey, peer);
      devices.add(device);
    }
  }
  if (byKey.size > PEERS_MAX) throw invalid('wireguard', `has more than ${PEERS_MAX} peers in all`);
  return byKey;
}

/**
 * A peer that lives without an entry in the book, or with another owner's, is removed and added anew: the life of
 * its counter is unknown, or belongs to somebody else for ever.
 */
export function planPeers(
  desired: ReadonlyMap<string, DesiredPeer>,
  engine: ReadonlyMap<string, EnginePeer>,
  book: { get(publicKey: string): PeerEntry | undefined },
): PeerPlan {
  const plan: PeerPlan = { remove: [], add: [], update: [] };
  for (const [publicKey, peer] of engine) {
    const wanted = desired.get(publicKey);
    const entry = book.get(publicKey);
    if (wanted === undefined) plan.remove.push(publicKey);
    else if (entry === undefined || !sameOwner(entry, wanted.owner)) {
      plan.remove.push(publicKey);
      plan.add.push(wanted);
    } else if (!sameSetting(peer, wanted)) plan.update.push(wanted);
  }
  for (const [publicKey, wanted] of desired) {
    if (!engine.has(publicKey)) plan.add.push(wanted);
  }
  return plan;
}

function sameOwner(a: PeerOwner, b: PeerOwner): boolean {
  return a.subscriptionId === b.subscriptionId && a.deviceId === b.deviceId && a.tenantId === b.tenantId;
}

function sameSetting(peer: EnginePeer, wanted: DesiredPeer): boolean {
  if (!sameSecret(peer.presharedKey, wanted.presharedKey)) return false;
  if (peer.allowedIps.length !== wanted.allowedIps.length) return false;
  const wantedIps = new Set(wanted.allowedIps);
  return peer.allowedIps.every((text) => {
    const cidr = parseCidr(text);
    return cidr !== null && wantedIps.has(formatCidr(cidr));
  });
}

/** The engine's peers as Access, in the words of the desired state where both mean the same. */
export function admittedBy(
  engine: ReadonlyMap<string, EnginePeer>,
  ownerOf: (publicKey: string) => PeerOwner,
  wordsOf: (id: SubscriptionId) => Access | undefined,
): Map<SubscriptionId, Access> {
  const admitted = new Map<SubscriptionId, Access>();
  for (const peer of engine.values()) {
    const { tenantId, subscriptionId, deviceId } = ownerOf(peer.publicKey);
    const access: Access = admitted.get(subscriptionId) ?? { tenantId, subscriptionId, wireguard: [] };
    access.wireguard?.push({
      deviceId,
      publicKey: Buffer.from(peer.publicKey, 'hex').toString('base64'),
      presharedKey: Buffer.from(peer.presharedKey, 'hex').toString('base64'),
      allowedIps: peer.allowedIps,
    });
    admitted.set(subscriptionId, access);
  }
  for (const [id, access] of admitted) useDesiredWords(access, wordsOf(id));
  return admitted;
}

/** Same order of devices and addresses and same spelling of an address as desired, so that equal is equal. */
function useDesiredWords(access: Access, desired: Access | undefined): void {
  const order = new Map((desired?.wireguard ?? []).map((peer, at) => [peer.deviceId, { peer, at }]));
  const place = (id: string): number => order.get(id as never)?.at ?? Number.MAX_SAFE_INTEGER;
  access.wireguard?.sort((a, b) => place(a.deviceId) - place(b.deviceId));
  for (const peer of access.wireguard ?? []) {
    const words = order.get(peer.deviceId)?.peer.allowedIps ?? [];
    const canonical = new Map(words.map((text, at) => [canonicalText(text), { text, at }]));
    const rank = (text: string): number => canonical.get(canonicalText(text))?.at ?? Number.MAX_SAFE_INTEGER;
    peer.allowedIps = [...peer.allowedIps]
      .sort((a, b) => rank(a) - rank(b))
      .map((text) => canonical.get(canonicalText(text))?.text ?? text);
  }
}

function canonicalText(text: string): string {
  const cidr = parseCidr(text);
  return cidr === null ? text : formatCidr(cidr);
}

function invalid(field: string, what: string): AppError {
  return new AppError('invalid_input', `${field} ${what}`, { field });
}
