// Finds a Redis: the one that is asked for, else one that answers on the usual port without a password. Nothing
// depends on it; without one control-api keeps its limits in its own process. Called by bin/start.ts.
import { connect } from 'node:net';
import { connect as connectTls } from 'node:tls';

const timeoutMs = 1_000;
const usual = 'redis://127.0.0.1:6379';

export interface RedisFinding {
  /** Undefined: none. */
  url: string | undefined;
  /** One line for the operator; holds no password. */
  note: string;
}

export async function findRedis(asked: string | undefined): Promise<RedisFinding> {
  if (asked !== undefined) {
    // A password may be in the address: it is passed on, not tried and not shown.
    const reachable = await pings(asked, true);
    const note = reachable
      ? 'Redis: the one of REDIS_URL'
      : 'Redis: the one of REDIS_URL does not answer yet';
    return { url: asked, note };
  }
  if (await pings(usual, false)) return { url: usual, note: 'Redis: found on port 6379' };
  return { url: undefined, note: 'Redis: none found, rate limits are kept in the API process' };
}

function pings(url: string, anyAnswer: boolean): Promise<boolean> {
  const { hostname, port, protocol } = new URL(url);
  const target = { host: hostname, port: Number(port === '' ? 6379 : port) };
  return new Promise((resolve) => {
    const socket = protocol === 'rediss:' ? connectTls(target) : connect(target);
    const end = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(timeoutMs, () => end(false));
    socket.once('error', () => end(false));
    socket.once(protocol === 'rediss:' ? 'secureConnect' : 'connect', () => socket.write('PING\r\n'));
    socket.once('data', (data: Buffer) => end(anyAnswer || data.toString('latin1').startsWith('+PONG')));
  });
}
