// What main and a customer's traffic program (client.ts) say to each other: JSON lines on its standard input and output.
import type { Engine } from '@penstock/domain/terms';

export interface ClientPath {
  engine: Engine;
  /** SOCKS port of the customer's Xray; null: straight through the tunnel. */
  socksPort: number | null;
  /** Control socket of the customer's WireGuard device, whose counters are his figures; null: his sockets' are. */
  deviceSocket: string | null;
  uploadBytes: number;
  downloadBytes: number;
  streamBytesPerSecond: number;
}

/** First line to the program. */
export interface ClientOrder {
  originHost: string;
  originPort: number;
  paths: ClientPath[];
  /** The client notes when its own figures reach this. */
  quotaBytes: number;
}

/** Later lines to the program. */
export type ClientCommand = { command: 'start' } | { command: 'try' };

export type Phase = 'waiting' | 'uploads' | 'downloads' | 'streams' | 'ended';

/** Times are milliseconds on the client's own monotonic clock. */
export interface PathReport {
  engine: Engine;
  phase: Phase;
  /** As the customer's own end counts: payload on Xray, encrypted packets of his device on WireGuard. */
  sentBytes: number;
  receivedBytes: number;
  payloadBytes: number;
  lastByteAtMs: number;
  /** Longest time without a byte since the stream began. */
  longestPauseMs: number;
  endedAtMs: number | null;
}

export interface ClientProgress {
  event: 'progress';
  atMs: number;
  crossedAtMs: number | null;
  paths: PathReport[];
}

/** A new connection was tried: `receivedBytes` came. */
export interface ClientTried {
  event: 'tried';
  engine: Engine;
  receivedBytes: number;
}
