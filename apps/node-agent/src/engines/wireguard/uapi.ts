// The text protocol of WireGuard's control socket (cross-platform UAPI): rendering of set messages, parsing of get
// answers. Pure and bounded: what the socket says is checked, never trusted. Keys are lower-case hex in here and in
// the whole driver; base64 only at its edges.
import { AppError } from '@penstock/domain/errors';

/** wireguard-go takes no more on one device. */
export const PEERS_MAX = 65_536;
/** 65,536 peers with two addresses each are about 26 MB. */
export const REPLY_BYTES_MAX = 64 * 1024 * 1024;
/** Peers of one set message. 1,000 adds take 0.16 s, in which nobody else can talk to the device. */
export const PEERS_PER_MESSAGE_MAX = 1_000;

const LINE_CHARACTERS_MAX = 512;
const ALLOWED_IPS_PER_PEER_MAX = 64;
const NO_KEY = '0'.repeat(64);

/** A peer as the engine holds it. */
export interface EnginePeer {
  publicKey: string;
  /** 64 zeros when there is none. */
  presharedKey: string;
  allowedIps: string[];
  /** Bytes from the customer: encrypted payload with handshakes and keepalives. */
  rxBytes: bigint;
  txBytes: bigint;
  /** Unix seconds, 0 = never. */
  lastHandshakeSeconds: number;
}

export interface EngineDevice {
  /** 64 zeros when unset. */
  privateKey: string;
  listenPort: number;
  peers: Map<string, EnginePeer>;
}

/** A peer as it shall be: key material and addresses in full. */
export interface PeerSetting {
  publicKey: string;
  presharedKey: string;
  allowedIps: string[];
}

export const GET_MESSAGE = 'get=1\n\n';

export function deviceMessage(privateKey: string, listenPort: number): string {
  return `set=1\nprivate_key=${privateKey}\nlisten_port=${listenPort}\n\n`;
}

/**
 * Adds peers or changes them. A changed peer keeps its counters and session; `updateOnly` makes nothing of a peer
 * that is gone (re-adding would start its counters again behind our back).
 */
export function upsertMessages(peers: PeerSetting[], updateOnly: boolean): string[] {
  const only = updateOnly ? 'update_only=true\n' : '';
  return chunks(peers).map((chunk) => {
    const sections = chunk.map((peer) => {
      const ips = peer.allowedIps.map((ip) => `allowed_ip=${ip}\n`).join('');
      const psk = `preshared_key=${peer.presharedKey}\n`;
      return `public_key=${peer.publicKey}\n${only}${psk}replace_allowed_ips=true\n${ips}`;
    });
    return `set=1\n${sections.join('')}\n`;
  });
}

/** Takes the peers' addresses away: nothing passes in either direction, session and counters stay. */
export function blockMessages(publicKeys: string[]): string[] {
  return chunks(publicKeys).map((chunk) => {
    const sections = chunk.map((key) => `public_key=${key}\nupdate_only=true\nreplace_allowed_ips=true\n`);
    return `set=1\n${sections.join('')}\n`;
  });
}

export function removeMessages(publicKeys: string[]): string[] {
  return chunks(publicKeys).map(
    (chunk) => `set=1\n${chunk.map((key) => `public_key=${key}\nremove=true\n`).join('')}\n`,
  );
}

function chunks<T>(items: T[]): T[][] {
  const parts: T[][] = [];
  for (let at = 0; at < items.length; at += PEERS_PER_MESSAGE_MAX) {
    parts.push(items.slice(at, at + PEERS_PER_MESSAGE_MAX));
  }
  return parts;
}

/** The errno of one reply (0 = done); throws when the reply does not end with one. */
export function parseErrno(reply: string): number {
  const match = /(?:^|\n)errno=(-?\d{1,5})\n*$/.exec(reply);
  if (match === null) throw unreadable('no errno');
  return Number(match[1]);
}

/** Parses the answer to get. Unknown keys are skipped (newer engines say more); a bad value of a known key throws. */
export function parseGet(reply: string): EngineDevice {
  const errno = parseErrno(reply);
  if (errno !== 0) throw new AppError('unavailable', `wireguard refused to answer (errno ${errno})`);
  const device: EngineDevice = { privateKey: NO_KEY, listenPort: 0, peers: new Map() };
  let peer: EnginePeer | null = null;
  for (let at = 0; at < reply.length;) {
    const newline = reply.indexOf('\n', at);
    const end = newline < 0 ? reply.length : newline;
    if (end - at > LINE_CHARACTERS_MAX) throw unreadable('line too long');
    const equals = reply.indexOf('=', at);
    if (end > at) {
      if (equals < 0 || equals >= end) throw unreadable('line without =');
      const key = reply.slice(at, equals);
      const value = reply.slice(equals + 1, end);
      if (key === 'public_key') {
        peer = newPeer(hexKey(value));
        if (device.peers.has(peer.publicKey)) throw unreadable('peer twice');
        if (device.peers.size >= PEERS_MAX) throw unreadable('too many peers');
        device.peers.set(peer.publicKey, peer);
      } else if (peer === null) {
        readDeviceLine(device, key, value);
      } else {
        readPeerLine(peer, key, value);
      }
    }
    at = end + 1;
  }
  return device;
}

export function newPeer(publicKey: string): EnginePeer {
  return {
    publicKey,
    presharedKey: NO_KEY,
    allowedIps: [],
    rxBytes: 0n,
    txBytes: 0n,
    lastHandshakeSeconds: 0,
  };
}

function readDeviceLine(device: EngineDevice, key: string, value: string): void {
  if (key === 'private_key') device.privateKey = hexKey(value);
  else if (key === 'listen_port') device.listenPort = Number(counter(value, 65_535n));
}

function readPeerLine(peer: EnginePeer, key: string, value: string): void {
  switch (key) {
    case 'preshared_key':
      peer.presharedKey = hexKey(value);
      break;
    case 'allowed_ip':
      if (peer.allowedIps.length >= ALLOWED_IPS_PER_PEER_MAX) throw unreadable('too many addresses');
      peer.allowedIps.push(value);
      break;
    case 'rx_bytes':
      peer.rxBytes = counter(value, U64_MAX);
      break;
    case 'tx_bytes':
      peer.txBytes = counter(value, U64_MAX);
      break;
    case 'last_handshake_time_sec':
      peer.lastHandshakeSeconds = Number(counter(value, BigInt(Number.MAX_SAFE_INTEGER)));
      break;
  }
}

const U64_MAX = 2n ** 64n - 1n;

/** A decimal number from 0 to `max`; throws on anything else. */
export function counter(text: string, max: bigint): bigint {
  if (!/^\d{1,20}$/.test(text)) throw unreadable('not a number');
  const value = BigInt(text);
  if (value > max) throw unreadable('number out of range');
  return value;
}

function hexKey(text: string): string {
  if (!/^[0-9a-f]{64}$/.test(text)) throw unreadable('not a key');
  return text;
}

/** What is wrong, never what was read: it may hold keys. */
export function unreadable(what: string): AppError {
  return new AppError('unavailable', `wireguard gave an unreadable answer (${what})`);
}
