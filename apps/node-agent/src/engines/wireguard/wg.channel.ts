// The kernel module by the wg command (which also speaks to wireguard-go, so its tests run on that). Keys travel by
// stdin; public keys may be argv. A read costs a process (15 ms at 1,000 peers), a removal 4 ms.
import type { Channel } from './channel.js';
import { run } from '../command.js';
import { counter, newPeer, PEERS_MAX, PEERS_PER_MESSAGE_MAX, unreadable } from './uapi.js';
import type { EngineDevice, PeerSetting } from './uapi.js';

const NO_KEY = '0'.repeat(64);

export class WgChannel implements Channel {
  constructor(
    private readonly interfaceName: string,
    /** 0700; stdin files live here until the command has opened them. */
    private readonly dir: string,
  ) {}

  async read(): Promise<EngineDevice> {
    return parseDump(await run('wg', ['show', this.interfaceName, 'dump'], { secret: true }));
  }

  async configure(privateKey: string, listenPort: number): Promise<void> {
    const args = ['set', this.interfaceName, 'listen-port', String(listenPort), 'private-key', '/dev/stdin'];
    await run('wg', args, { stdin: `${base64(privateKey)}\n`, stdinFileDir: this.dir, secret: true });
  }

  /** addconf is an upsert that replaces key and addresses of the named peers; it cannot say "change only". */
  async upsert(peers: PeerSetting[]): Promise<void> {
    for (let at = 0; at < peers.length; at += PEERS_PER_MESSAGE_MAX) {
      const text = peers
        .slice(at, at + PEERS_PER_MESSAGE_MAX)
        .map(peerSection)
        .join('');
      const args = ['addconf', this.interfaceName, '/dev/stdin'];
      await run('wg', args, { stdin: text, stdinFileDir: this.dir, secret: true });
    }
  }

  async block(publicKeys: string[]): Promise<void> {
    await this.#each(publicKeys, (key) => ['peer', base64(key), 'allowed-ips', '']);
  }

  async readThenRemove(publicKeys: string[]): Promise<EngineDevice> {
    const device = await this.read();
    await this.#each(publicKeys, (key) => ['peer', base64(key), 'remove']);
    return device;
  }

  async #each(publicKeys: string[], words: (key: string) => string[]): Promise<void> {
    for (let at = 0; at < publicKeys.length; at += PEERS_PER_MESSAGE_MAX) {
      const chunk = publicKeys.slice(at, at + PEERS_PER_MESSAGE_MAX);
      await run('wg', ['set', this.interfaceName, ...chunk.flatMap(words)], { secret: true });
    }
  }
}

function peerSection(peer: PeerSetting): string {
  const ips = peer.allowedIps.length === 0 ? '' : `AllowedIPs = ${peer.allowedIps.join(', ')}\n`;
  const psk = peer.presharedKey === NO_KEY ? '' : `PresharedKey = ${base64(peer.presharedKey)}\n`;
  return `[Peer]\nPublicKey = ${base64(peer.publicKey)}\n${psk}${ips}`;
}

/** Tab separated: one line of the device, then one a peer; "(none)" and "off" where there is nothing. */
export function parseDump(text: string): EngineDevice {
  const lines = text.split('\n').filter((line) => line !== '');
  const [privateKey, , listenPort] = fields(lines[0] ?? '', 4);
  const device: EngineDevice = {
    privateKey: key(privateKey),
    listenPort: Number(counter(listenPort ?? '', 65_535n)),
    peers: new Map(),
  };
  if (lines.length - 1 > PEERS_MAX) throw unreadable('too many peers');
  for (const line of lines.slice(1)) {
    const [publicKey, psk, , ips = '', handshake = '', rx = '', tx = ''] = fields(line, 8);
    const peer = newPeer(key(publicKey));
    peer.presharedKey = key(psk);
    peer.allowedIps = ips === '(none)' ? [] : ips.split(',');
    peer.lastHandshakeSeconds = Number(counter(handshake, BigInt(Number.MAX_SAFE_INTEGER)));
    peer.rxBytes = counter(rx, 2n ** 64n - 1n);
    peer.txBytes = counter(tx, 2n ** 64n - 1n);
    if (device.peers.has(peer.publicKey)) throw unreadable('peer twice');
    device.peers.set(peer.publicKey, peer);
  }
  return device;
}

function fields(line: string, count: number): string[] {
  const parts = line.split('\t');
  if (parts.length !== count) throw unreadable('wrong number of columns');
  return parts;
}

function key(text: string | undefined): string {
  if (text === '(none)') return NO_KEY;
  const hex = Buffer.from(text ?? '', 'base64').toString('hex');
  if (hex.length !== 64) throw unreadable('not a key');
  return hex;
}

function base64(hex: string): string {
  return Buffer.from(hex, 'hex').toString('base64');
}
