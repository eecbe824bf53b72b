// Keeps the node's certificate young: at half its life, give or take a tenth, a new key and a new certificate; an
// expired one is re-attested by proof of its key. The decision (nextStep) is pure; the effects are one call and one
// swap. A refusal is told to the operator and tried again slowly, since only he can act.
import { sign, type KeyObject } from 'node:crypto';
import type { Clock } from '@penstock/domain/clock';
import { AppError, type ErrorCode } from '@penstock/domain/errors';
import { makeCsr, publicKeyHash } from '@penstock/rpc/certificates';
import { callUnary, connect, type ConnectOptions } from '@penstock/rpc/client';
import { IdentityServiceClient } from '@penstock/rpc/gen/penstock/identity/v1/identity';
import type { Logger } from '@penstock/service/logger';
import type { Enrollment } from './enroll.js';
import type { NodeIdentity } from './identity-store.js';

export interface RenewalDeps {
  enrollment: Enrollment;
  trustDomain: string;
  clock: Clock;
  log: Logger;
  /** [0, 1), for jitter. */
  random: () => number;
  /** After the swap: time to connect anew. */
  onRenewed?(identity: NodeIdentity): void;
}

export interface Renewal {
  start(): void;
  close(): void;
  /** One look: does what is due. Never throws. */
  tick(): Promise<void>;
  /** Why the last try failed; empty when nothing is wrong. */
  problem(): string;
}

export type Step = 'nothing' | 'renew' | 'reattest';

/** Part of the life after which renewal begins, and how far nodes are spread around it. */
const RENEW_AT = 0.5;
const RENEW_SPREAD = 0.1;
/** Part of the life that passes between two renewals at least. */
const REST_AFTER = 0.25;
const TICK_MS = 30_000;
const RETRY_FIRST_MS = 30_000;
const RETRY_MAX_MS = 15 * 60_000;
const CALL_DEADLINE_MS = 20_000;
/** Refusals that no retry of ours cures. */
const final: ReadonlySet<ErrorCode> = new Set([
  'certificate_revoked',
  'certificate_superseded',
  'certificate_invalid',
]);

/** What is due at `nowMs`; `jitter` in [-1, 1] moves half life by up to a tenth of the life. */
export function nextStep(
  identity: Pick<NodeIdentity, 'notBefore' | 'notAfter'>,
  nowMs: number,
  jitter: number,
): Step {
  const [from, to] = [identity.notBefore.getTime(), identity.notAfter.getTime()];
  if (nowMs >= to) return 'reattest';
  return nowMs >= from + (to - from) * (RENEW_AT + RENEW_SPREAD * jitter) ? 'renew' : 'nothing';
}

export function createRenewal(deps: RenewalDeps): Renewal {
  const { enrollment, clock, log, random } = deps;
  let jitter = random() * 2 - 1;
  let retryAt = -Infinity;
  let retryMs = RETRY_FIRST_MS;
  let problem = '';
  let running: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;

  const look = async (): Promise<void> => {
    const step = nextStep(enrollment.currentIdentity(), clock.now(), jitter);
    if (step === 'nothing' || clock.monotonic() < retryAt) return;
    try {
      const identity = await (step === 'renew' ? renew(deps) : reattest(deps));
      jitter = random() * 2 - 1;
      // A clock that is far ahead finds every new certificate old: not again before this much has really passed.
      const restMs = (identity.notAfter.getTime() - identity.notBefore.getTime()) * REST_AFTER;
      [retryAt, retryMs, problem] = [clock.monotonic() + restMs, RETRY_FIRST_MS, ''];
      log.info(
        { nodeId: identity.nodeId, notAfter: identity.notAfter.toISOString(), action: step },
        'certificate renewed',
      );
      deps.onRenewed?.(identity);
    } catch (error) {
      const failure =
        error instanceof AppError ? error : new AppError('internal', 'renewal failed', { cause: error });
      if (final.has(failure.code)) retryMs = RETRY_MAX_MS;
      const delayMs = Math.round(Math.max(retryMs, failure.retryAfterMs ?? 0) * (0.5 + random()));
      [retryAt, retryMs] = [clock.monotonic() + delayMs, Math.min(retryMs * 2, RETRY_MAX_MS)];
      problem = failure.message;
      const fields = { error: failure, action: step, delayMs };
      if (final.has(failure.code)) log.error(fields, 'certificate refused');
      else log.warn(fields, 'certificate not renewed yet');
    }
  };
  const tick = (): Promise<void> => {
    running ??= look().finally(() => {
      running = undefined;
    });
    return running;
  };
  return {
    start: () => {
      timer = setInterval(() => void tick(), TICK_MS);
      timer.unref();
      void tick();
    },
    close: () => clearInterval(timer),
    tick,
    problem: () => problem,
  };
}

async function renew(deps: RenewalDeps): Promise<NodeIdentity> {
  const { edge, currentIdentity } = deps.enrollment;
  const tls = currentIdentity().tls;
  return ask(deps, edge.enforcement, tls, async (client, csr) => {
    const { certificates } = await callUnary(client, client.renew, { csr }, { deadlineMs: CALL_DEADLINE_MS });
    return certificates;
  });
}

async function reattest(deps: RenewalDeps): Promise<NodeIdentity> {
  const { edge, currentIdentity } = deps.enrollment;
  const { certificate, privateKey, tls } = currentIdentity();
  try {
    return await ask(deps, edge.enroll, { root: tls.root }, async (client, csr, publicKey) => {
      const proof = sign('sha256', csr, privateKey);
      const request = { certificate, csr, proof };
      const answer = await callUnary(client, client.reattest, request, { deadlineMs: CALL_DEADLINE_MS });
      if (answer.pending) {
        const fingerprint = publicKeyHash(publicKey).toString('hex');
        throw new AppError('pending', `waiting for an admin to approve this node; key ${fingerprint}`);
      }
      return answer.certificates;
    });
  } catch (error) {
    // Our clock is ahead: for the server the certificate is still good.
    if (error instanceof AppError && error.code === 'failed_precondition') return renew(deps);
    throw error;
  }
}

async function ask(
  { enrollment, trustDomain, clock, log }: RenewalDeps,
  address: string,
  tls: ConnectOptions['tls'],
  exchange: (client: IdentityServiceClient, csr: Buffer, publicKey: KeyObject) => Promise<Uint8Array[]>,
): Promise<NodeIdentity> {
  const { store, edge } = enrollment;
  const keys = store.pendingKey();
  const client = connect(IdentityServiceClient, address, {
    tls,
    trustDomain,
    servers: ['scheduler', 'caddy'],
    log,
    clock,
    ...(edge.serverName === undefined ? {} : { serverName: edge.serverName }),
  });
  try {
    const certificates = await exchange(client, await makeCsr(keys), keys.publicKey);
    const root = enrollment.currentIdentity().tls.root;
    return store.adopt(keys, certificates, root);
  } finally {
    client.close();
  }
}
