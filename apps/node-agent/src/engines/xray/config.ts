// The Xray configuration of this node, users included, as one JSON document. Pure: nothing here touches the disk.
// Invariants: the API is reachable over the unix socket alone; every user counts under his subscription's id; no
// rule before the end of the list catches ordinary traffic, because rules that cut a customer are appended last.
import { createHash } from 'node:crypto';
import { AppError } from '@penstock/domain/errors';
import type { Access, XrayAccess } from '@penstock/domain/access';
import type { SubscriptionId } from '@penstock/domain/ids';
import { blockedEgress } from './egress.js';

export const API_TAG = 'api';
export const DIRECT_TAG = 'direct';
export const BLOCKED_TAG = 'blocked';

export interface RealitySettings {
  /** X25519 private key, base64url without padding. */
  privateKey: string;
  /** Each at most 16 hex digits, an even number of them. */
  shortIds: string[];
  serverNames: string[];
  /** "host:port" that answers whoever is no customer. */
  target: string;
}

export interface XrayInbound {
  /** Lower-case letters, digits and dashes, at most 32; not one of our own tags. */
  tag: string;
  listen: string;
  port: number;
  security: 'none' | 'reality';
  reality?: RealitySettings;
}

export interface XrayPaths {
  config: string;
  /** API socket. */
  socket: string;
  /** FIFO that takes the access log. */
  accessLog: string;
}

export interface ConfigInput {
  inbounds: readonly XrayInbound[];
  paths: XrayPaths;
  blockPrivateEgress: boolean;
  /** CIDRs that customers may reach although they are private. */
  allowEgress: readonly string[];
  /** Addresses of this machine: blocked with the private ones, but no reason for a restart when they change. */
  ownAddresses: readonly string[];
  /** Socket mark of customers' connections, for the firewall (egress-firewall.ts); null where none can be set. */
  mark: number | null;
}

/** What an inbound holds of one subscription. The email in Xray is the subscription's id. */
export interface XrayUser {
  subscriptionId: SubscriptionId;
  vlessId: string;
  flow: XrayAccess['flow'];
}

/** What an inbound must hold for a subscription: Vision needs a secured connection, plain TCP refuses it. */
export function userOf(inbound: XrayInbound, subscriptionId: SubscriptionId, access: XrayAccess): XrayUser {
  return { subscriptionId, vlessId: access.vlessId, flow: inbound.security === 'reality' ? access.flow : '' };
}

/** The whole configuration as JSON text. `desired` without an xray part is left out. */
export function renderConfig(input: ConfigInput, desired: Iterable<Access>): string {
  const accesses = [...desired];
  return JSON.stringify(document(input, accesses));
}

/** Hash of everything but the users and the own addresses: Xray is started again only when it changed. */
export function staticHash(input: ConfigInput): string {
  return createHash('sha256')
    .update(JSON.stringify(document({ ...input, ownAddresses: [] }, [])))
    .digest('hex');
}

function document(input: ConfigInput, accesses: readonly Access[]): object {
  const blocked = blockedEgress({
    blockPrivate: input.blockPrivateEgress,
    allowed: input.allowEgress,
    ownAddresses: input.ownAddresses,
  });
  return {
    // The access log names destinations, so it goes into a pipe and never to a disk; the error log may too: none.
    log: { access: input.paths.accessLog, error: 'none', loglevel: 'warning', dnsLog: false },
    stats: {},
    api: { tag: API_TAG, services: ['HandlerService', 'StatsService', 'RoutingService'] },
    policy: {
      levels: { '0': { statsUserUplink: true, statsUserDownlink: true, statsUserOnline: true } },
      system: { statsInboundUplink: true, statsInboundDownlink: true },
    },
    inbounds: [
      {
        tag: API_TAG,
        listen: `${input.paths.socket},0600`,
        protocol: 'dokodemo-door',
        // Below 26.5.3 `api.listen` knows no unix socket. Without `network: unix` nothing listens, and nothing is said.
        settings: { address: '127.0.0.1', port: 1, network: 'unix' },
      },
      ...input.inbounds.map((inbound) => vlessInbound(inbound, accesses)),
    ],
    outbounds: [
      {
        ...{ tag: DIRECT_TAG, protocol: 'freedom', settings: {} },
        ...(input.mark === null ? {} : { streamSettings: { sockopt: { mark: input.mark } } }),
      },
      { tag: BLOCKED_TAG, protocol: 'blackhole', settings: {} },
    ],
    routing: {
      // Names are resolved for the rules too, so a name that points to a private address is blocked. Freedom asks again
      // when it dials: whoever answers differently then is stopped by the firewall.
      domainStrategy: 'IPOnDemand',
      rules: [
        { inboundTag: [API_TAG], outboundTag: API_TAG },
        ...(blocked.length === 0 ? [] : [{ ip: blocked, outboundTag: BLOCKED_TAG }]),
      ],
    },
  };
}

function vlessInbound(inbound: XrayInbound, accesses: readonly Access[]): object {
  const clients = accesses.flatMap(({ subscriptionId, xray }) => {
    if (xray === undefined) return [];
    const user = userOf(inbound, subscriptionId, xray);
    return [{ id: user.vlessId, email: user.subscriptionId, level: 0, flow: user.flow }];
  });
  const { reality } = inbound;
  return {
    tag: inbound.tag,
    listen: inbound.listen,
    port: inbound.port,
    protocol: 'vless',
    settings: { clients, decryption: 'none' },
    streamSettings:
      reality === undefined
        ? { network: 'tcp', security: 'none' }
        : { network: 'tcp', security: 'reality', realitySettings: { show: false, xver: 0, ...reality } },
  };
}

/** Refuses settings (invalid_input) that Xray would refuse, or that would make customers' sockets ambiguous. */
export function validateInbounds(inbounds: readonly XrayInbound[]): void {
  const refuse = (message: string): never => {
    throw new AppError('invalid_input', message, { field: 'xray.inbounds' });
  };
  if (inbounds.length === 0) refuse('at least one Xray inbound is needed');
  const seen = new Set<string | number>([API_TAG, DIRECT_TAG, BLOCKED_TAG]);
  for (const { tag, port, security, reality } of inbounds) {
    if (!/^[a-z0-9][a-z0-9-]{0,31}$/.test(tag) || seen.has(tag))
      refuse(`inbound tag "${tag}" is malformed or taken`);
    if (!Number.isInteger(port) || port < 1 || port > 65_535)
      refuse(`inbound ${tag}: the port must be 1 to 65535`);
    // A port stands for one inbound: the socket list knows ports, the access log tags.
    if (seen.has(port)) refuse(`inbound ${tag}: port ${port} is taken by another inbound`);
    seen.add(tag).add(port);
    if ((security === 'reality') !== (reality !== undefined))
      refuse(`inbound ${tag}: REALITY needs its settings, and only it`);
    if (reality !== undefined) validateReality(tag, reality, refuse);
  }
}

function validateReality(tag: string, reality: RealitySettings, refuse: (message: string) => never): void {
  if (!/^[A-Za-z0-9_-]{43}$/.test(reality.privateKey))
    refuse(`inbound ${tag}: the private key must be 43 base64url characters`);
  if (reality.shortIds.length === 0 || !reality.shortIds.every((id) => /^([0-9a-f]{2}){0,8}$/.test(id))) {
    refuse(`inbound ${tag}: short ids must be up to 16 hex digits, an even number`);
  }
  if (reality.serverNames.length === 0) refuse(`inbound ${tag}: a server name is needed`);
  if (!/^[^\s:]+:\d{1,5}$|^\[[0-9a-f:]+\]:\d{1,5}$/.test(reality.target))
    refuse(`inbound ${tag}: target must be host:port`);
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** True for a lower-case UUID, the only form in which ids reach Xray. */
export function isUuid(text: string): boolean {
  return UUID.test(text);
}

/** A VLESS id as Xray looks it up: bytes 6 and 7 are ignored, so two ids that differ only there are one. */
export function maskedId(vlessId: string): string {
  return `${vlessId.slice(0, 14)}0000${vlessId.slice(18)}`;
}

/**
 * Refuses (invalid_input) access that Xray would refuse, or worse, take for something else: it hashes any string of
 * up to 30 characters into an id, so a typo would not fail there.
 */
export function validateAccess(access: Access, inbounds: readonly XrayInbound[]): void {
  if (!isUuid(access.subscriptionId)) {
    throw new AppError('invalid_input', 'subscriptionId must be a lower-case UUID', {
      field: 'subscriptionId',
    });
  }
  const { xray } = access;
  if (xray === undefined) return;
  if (!isUuid(xray.vlessId)) {
    throw new AppError('invalid_input', 'xray.vlessId must be a lower-case UUID', { field: 'xray.vlessId' });
  }
  const flow: string = xray.flow;
  if (flow !== '' && flow !== 'xtls-rprx-vision') {
    throw new AppError('invalid_input', 'xray.flow must be empty or xtls-rprx-vision', {
      field: 'xray.flow',
    });
  }
  if (flow !== '' && !inbounds.some(({ security }) => security === 'reality')) {
    throw new AppError('invalid_input', 'xray.flow must be empty: this node has no REALITY inbound', {
      field: 'xray.flow',
    });
  }
}
