// The control socket of wireguard-go, spoken from Node. One connection per exchange (0.2 ms): nothing to keep alive
// or to resynchronise after a timeout.
import { createConnection } from 'node:net';
import { AppError } from '@penstock/domain/errors';
import type { Channel } from './channel.js';
import {
  blockMessages,
  deviceMessage,
  GET_MESSAGE,
  parseErrno,
  parseGet,
  removeMessages,
  REPLY_BYTES_MAX,
  upsertMessages,
} from './uapi.js';
import type { EngineDevice, PeerSetting } from './uapi.js';

const EXCHANGE_TIMEOUT_MS = 10_000;

export class UapiChannel implements Channel {
  constructor(private readonly socketPath: string) {}

  async read(): Promise<EngineDevice> {
    const [reply = ''] = await exchange(this.socketPath, GET_MESSAGE, 1);
    return parseGet(reply);
  }

  async configure(privateKey: string, listenPort: number): Promise<void> {
    await this.#set([deviceMessage(privateKey, listenPort)]);
  }

  async upsert(peers: PeerSetting[], change: boolean): Promise<void> {
    await this.#set(upsertMessages(peers, change));
  }

  async block(publicKeys: string[]): Promise<void> {
    await this.#set(blockMessages(publicKeys));
  }

  /** Both requests go out in one write, so only microseconds lie between the reading and the removal. */
  async readThenRemove(publicKeys: string[]): Promise<EngineDevice> {
    const [first = '', ...others] = removeMessages(publicKeys);
    if (first === '') return this.read();
    // wireguard-go's set swallows what follows it in the buffer, so one set, last, is all that may be pipelined.
    const [state = '', removed = ''] = await exchange(this.socketPath, GET_MESSAGE + first, 2);
    const device = parseGet(state);
    checkErrno(removed);
    await this.#set(others);
    return device;
  }

  async #set(messages: string[]): Promise<void> {
    for (const message of messages) {
      const [reply = ''] = await exchange(this.socketPath, message, 1);
      checkErrno(reply);
    }
  }
}

function checkErrno(reply: string): void {
  const errno = parseErrno(reply);
  if (errno !== 0) throw new AppError('unavailable', `wireguard refused a change (errno ${errno})`);
}

/** Writes `request` and resolves with `count` replies, each ending in an empty line. */
function exchange(path: string, request: string, count: number): Promise<string[]> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    const parts: Uint8Array[] = [];
    let bytes = 0;
    let seen = 0;
    let tail: Uint8Array = new Uint8Array();
    const fail = (words: string, cause?: unknown): void => {
      socket.destroy();
      reject(new AppError('unavailable', words, { cause }));
    };
    socket.setTimeout(EXCHANGE_TIMEOUT_MS, () => fail('wireguard did not answer in time'));
    socket.on('error', (cause) => fail('the control socket of wireguard does not answer', cause));
    socket.on('close', () => fail('wireguard closed its control socket in the middle of an answer'));
    socket.on('connect', () => socket.write(request));
    socket.on('data', (data) => {
      const chunk = typeof data === 'string' ? Buffer.from(data) : data;
      bytes += chunk.length;
      if (bytes > REPLY_BYTES_MAX) return fail('the answer of wireguard is too long');
      parts.push(chunk);
      const window = Buffer.concat([tail, chunk]);
      let from = 0;
      for (let at = window.indexOf('\n\n'); at >= 0; at = window.indexOf('\n\n', from)) {
        seen += 1;
        from = at + 2;
      }
      tail = window.subarray(Math.max(from, window.length - 1));
      if (seen < count) return;
      resolve(
        Buffer.concat(parts)
          .toString('latin1')
          .split('\n\n')
          .slice(0, count)
          .map((reply) => `${reply}\n`),
      );
      socket.destroy();
    });
  });
}
