// How a machine becomes a node: a join token and a key of its own for a certificate. Called once by main.ts before
// anything else connects; an enrolled node gets its identity back from disk and asks nobody.
import { createHash, X509Certificate } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Clock } from '@penstock/domain/clock';
import { AppError, type ErrorCode } from '@penstock/domain/errors';
import { makeCsr } from '@penstock/rpc/certificates';
import { callUnary, connect } from '@penstock/rpc/client';
import { IdentityServiceClient } from '@penstock/rpc/gen/penstock/identity/v1/identity';
import { parseJoinToken, type JoinToken } from '@penstock/rpc/join-token';
import { pemOf } from '@penstock/rpc/trust';
import type { Logger } from '@penstock/service/logger';
import { IdentityStore, type Edge, type NodeIdentity } from './identity-store.js';
import { fetchPinnedRoot } from './pinned-root.js';

export interface EnrollOptions {
  agentDir: string;
  trustDomain: string;
  /** Text of the join token; needed until the node is enrolled, later only for changed addresses. */
  joinToken: string | undefined;
  clock: Clock;
  log: Logger;
  /** [0, 1), for jitter. */
  random: () => number;
  signal: AbortSignal;
}

export interface Enrollment {
  store: IdentityStore;
  /** Where this node connects. */
  edge: Edge;
  /** The identity in use now; ask again for each frame and connection, renewal replaces it. */
  currentIdentity(): NodeIdentity;
}

const CALL_DEADLINE_MS = 20_000;
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 30_000;
/** An older certificate cannot be re-attested (scheduler's rule): only a new token helps. */
const REATTEST_MS = 30 * 24 * 3_600_000;
/** What another try may cure. */
const passing: ReadonlySet<ErrorCode> = new Set(['unavailable', 'rate_limited', 'internal']);

/**
 * The node's identity, from disk or by enrolling. Waits for an edge that does not answer; throws token_…,
 * certificate_invalid or failed_precondition when waiting would not help.
 */
export async function openIdentity(options: EnrollOptions): Promise<Enrollment> {
  const store = new IdentityStore(options.agentDir, options.trustDomain);
  const token = options.joinToken === undefined ? undefined : parseJoinToken(options.joinToken);
  const known = store.readEdge();
  const lost = store.current !== null && options.clock.now() - store.current.notAfter.getTime() > REATTEST_MS;
  if (store.current === null || known === null || lost) {
    if (token === undefined || options.joinToken === undefined) {
      const why = lost ? 'its certificate expired more than 30 days ago' : 'it has no certificate';
      throw new AppError('failed_precondition', `this node needs a join token (JOIN_TOKEN): ${why}`);
    }
    await enrollUntilAnswered(options, store, token, options.joinToken);
    return enrollment(store, edgeOf(token));
  }
  // A token at hand may tell new addresses of the same installation.
  if (token === undefined || token.rootFingerprint !== known.rootFingerprint) return enrollment(store, known);
  const edge = edgeOf(token);
  if (JSON.stringify(edge) !== JSON.stringify(known)) store.writeEdge(edge);
  return enrollment(store, edge);
}

function enrollment(store: IdentityStore, edge: Edge): Enrollment {
  return {
    store,
    edge,
    currentIdentity: () => {
      if (store.current === null) throw new AppError('failed_precondition', 'this node is not enrolled');
      return store.current;
    },
  };
}

async function enrollUntilAnswered(
  options: EnrollOptions,
  store: IdentityStore,
  token: JoinToken,
  text: string,
): Promise<void> {
  const { log, random, signal } = options;
  for (let retryMs = RETRY_FIRST_MS; ; retryMs = Math.min(retryMs * 2, RETRY_MAX_MS)) {
    try {
      return await enroll(options, store, token, text);
    } catch (error) {
      if (signal.aborted || !(error instanceof AppError) || !passing.has(error.code)) throw error;
      const delayMs = Math.round(Math.max(retryMs, error.retryAfterMs ?? 0) * (0.5 + random()));
      log.warn(
        { code: error.code, reason: error.message, delayMs },
        'enrolment did not succeed, trying again',
      );
      await delay(delayMs, undefined, { signal });
    }
  }
}

async function enroll(
  options: EnrollOptions,
  store: IdentityStore,
  token: JoinToken,
  text: string,
): Promise<void> {
  const { trustDomain, log, clock, signal } = options;
  const rootPem = await fetchPinnedRoot(token.enroll, token.serverName, token.rootFingerprint, signal);
  const keys = store.pendingKey();
  const client = connect(IdentityServiceClient, token.enroll, {
    tls: { root: rootPem },
    trustDomain,
    servers: ['scheduler', 'caddy'],
    log,
    clock,
    ...(token.serverName === undefined ? {} : { serverName: token.serverName }),
  });
  try {
    const request = { joinToken: text, csr: await makeCsr(keys) };
    const answer = await callUnary(client, client.enroll, request, { deadlineMs: CALL_DEADLINE_MS, signal });
    const root = new X509Certificate(answer.trustRoot);
    if (createHash('sha256').update(root.raw).digest('hex') !== token.rootFingerprint) {
      throw new AppError(
        'certificate_invalid',
        'the root that was given is not the one that the join token names',
      );
    }
    // Addresses first: an identity without them would have to enroll again, with a used token.
    store.writeEdge(edgeOf(token));
    const identity = store.adopt(keys, answer.certificates, pemOf([root]));
    log.info({ nodeId: identity.nodeId, notAfter: identity.notAfter.toISOString() }, 'enrolled');
  } finally {
    client.close();
  }
}

function edgeOf(token: JoinToken): Edge {
  const { enroll: enrollAddress, enforcement, usage, serverName, rootFingerprint } = token;
  return {
    enroll: enrollAddress,
    enforcement,
    usage,
    ...(serverName === undefined ? {} : { serverName }),
    rootFingerprint,
  };
}
