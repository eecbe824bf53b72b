// How the driver talks to one WireGuard device. Two ways with one meaning: the control socket of wireguard-go
// (uapi.channel.ts) and the wg command for the kernel module (wg.channel.ts).
import type { EngineDevice, PeerSetting } from './uapi.js';

export interface Channel {
  read(): Promise<EngineDevice>;
  /** Private key as hex. */
  configure(privateKey: string, listenPort: number): Promise<void>;
  /** Adds peers (`change` false) or changes peers that exist, keeping their counters. Not atomic as a whole. */
  upsert(peers: PeerSetting[], change: boolean): Promise<void>;
  /** Stops the peers' traffic in both directions; counters stay and stop, but for refused packets (rx). */
  block(publicKeys: string[]): Promise<void>;
  /** Reads everything and removes these peers right behind it; the answer is the state before the removal. */
  readThenRemove(publicKeys: string[]): Promise<EngineDevice>;
}
