// B13: one GET of a subscription, with token, role, limits, tenant and row security, against node:http with pg in the
// same round. Judged: processor time of the server a request.
import { fileURLToPath } from 'node:url';
import { load, type HttpRequest } from './http-load.js';
import {
  busyShare,
  cpuMsOf,
  freePort,
  makeGround,
  quiet,
  until,
  type Ground,
  type RunningApi,
} from './processes.js';
import { median, quantile, round, spread, type BenchOptions, type BenchResult } from './result.js';

const FLOOR = 1.8;
const CONNECTIONS = 16;
const SECONDS = 3;

export async function bench(options: BenchOptions): Promise<BenchResult> {
  const ground = await makeGround();
  try {
    const api = await ground.startApi({ RATE_LIMIT_FACTOR: '10000' });
    const { token, subscriptionId } = await customer(api);
    const anchorPort = await freePort();
    const anchor = ground.run(fileURLToPath(new URL('./api-anchor.js', import.meta.url)), [
      ...[String(anchorPort), ground.database.superuserUrl, subscriptionId],
    ]);
    const asked: HttpRequest = {
      ...{ method: 'GET', path: `/api/v1/subscriptions/${subscriptionId}` },
      headers: { authorization: `Bearer ${token}` },
    };
    const plain: HttpRequest = { method: 'GET', path: '/' };
    await until('the anchor listens', () =>
      fetch(`http://127.0.0.1:${anchorPort}`).then(
        () => true,
        () => false,
      ),
    );
    const seconds = options.count ?? SECONDS;
    const measure = async (port: number, pid: number, request: HttpRequest): Promise<Measured> => {
      const before = cpuMsOf(pid);
      const result = await load(port, request, { connections: CONNECTIONS, seconds });
      const cpuUs = ((cpuMsOf(pid) - before) * 1_000) / result.count;
      return { cpuUs, perSecond: result.count / result.seconds, p99: quantile(result.ms, 0.99) };
    };
    // Both warm.
    await load(api.port, asked, { connections: CONNECTIONS, seconds });
    await load(anchorPort, plain, { connections: CONNECTIONS, seconds });
    const rounds: { ours: Measured; anchor: Measured; foreign: number }[] = [];
    for (let i = 0; i < options.rounds; i++) {
      const foreign = Math.max(await quiet(), await busyShare());
      const theirs = await measure(anchorPort, anchor.pid ?? 0, plain);
      const ours = await measure(api.port, api.pid, asked);
      rounds.push({ ours, anchor: theirs, foreign });
      options.say(
        `round ${i + 1}: ${round(ours.cpuUs)} µs, anchor ${round(theirs.cpuUs)} µs, ratio ${round(ours.cpuUs / theirs.cpuUs)}; ` +
          `${Math.round(ours.perSecond)}/s of ${Math.round(theirs.perSecond)}/s, p99 ${round(ours.p99)} ms, foreign ${round(foreign)}`,
      );
    }
    const ratio = median(rounds.map(({ ours, anchor: theirs }) => ours.cpuUs / theirs.cpuUs));
    const values = rounds.map(({ ours }) => ours.cpuUs);
    return {
      ...{ name: 'api-get', value: round(median(values)), unit: 'CPU µs a request', ratio: round(ratio) },
      anchor: round(median(rounds.map((each) => each.anchor.cpuUs))),
      ...{ rounds: spread(values), good: ratio <= FLOOR },
      also: {
        'share of the anchor’s requests a second': round(
          median(rounds.map(({ ours, anchor: theirs }) => ours.perSecond / theirs.perSecond)),
        ),
        'requests a second': Math.round(median(rounds.map(({ ours }) => ours.perSecond))),
        'p99 ms at saturation': round(median(rounds.map(({ ours }) => ours.p99))),
        foreignCpu: round(median(rounds.map(({ foreign }) => foreign))),
      },
    };
  } finally {
    await ground.close();
  }
}

interface Measured {
  cpuUs: number;
  perSecond: number;
  p99: number;
}

/** The first owner, signed in, and a subscription of his. */
export async function customer(api: RunningApi): Promise<{ token: string; subscriptionId: string }> {
  const post = async (path: string, body: object, token?: string): Promise<Record<string, string>> => {
    const response = await fetch(`http://127.0.0.1:${api.port}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...(token && { authorization: `Bearer ${token}` }) },
      body: JSON.stringify(body),
    });
    const answer = (await response.json()) as Record<string, string>;
    if (!response.ok) throw new Error(`POST ${path}: ${JSON.stringify(answer)}`);
    return answer;
  };
  const owner = { email: OWNER, password: PASSWORD, displayName: 'Owner', token: api.setupToken };
  const token = (await post('/api/v1/setup', owner))['accessToken'] ?? '';
  const group = await post('/api/v1/node-groups', { name: 'all' }, token);
  const terms = { limitBytes: '10000000000', engines: ['xray'], nodeGroupIds: [group['nodeGroupId']] };
  const plan = await post('/api/v1/plans', { name: 'Ten gigabytes', ...terms }, token);
  const subscription = await post(
    '/api/v1/subscriptions',
    { planId: plan['planId'], name: 'customer' },
    token,
  );
  return { token, subscriptionId: subscription['subscriptionId'] ?? '' };
}

export const OWNER = 'owner@example.org';
export const PASSWORD = 'correct horse battery';
export type { Ground };
