// Idempotency-Key on every mutation that does not say `withoutKey`: the first request with a key does the work, every
// repetition within a day gets its answer, status and body, refusals included; the same key with another request is
// refused. Across processes and through a crash, since key, effect and answer are one transaction; one that waits for
// another process (keyed-transaction.ts `apart`) claims its key, waits with nothing held and keeps its answer in a
// second one. Not kept, because nothing happened: input refused before any work began, and what is to be tried again.
import { createHmac, hkdfSync } from 'node:crypto';
import {
  Injectable,
  RequestMethod,
  type CallHandler,
  type ExecutionContext,
  type NestInterceptor,
  type Type,
} from '@nestjs/common';
import { INTERCEPTORS_METADATA, METHOD_METADATA } from '@nestjs/common/constants';
import type { FastifyReply } from 'fastify';
import { from, lastValueFrom, type Observable } from 'rxjs';
import { AppError, type ErrorCode } from '@penstock/domain/errors';
import { withTransaction } from '@penstock/db/transaction';
import { openSecret, sealSecret } from '@penstock/service/secret-box';
import { canonicalJson } from '@penstock/domain/canonical-json';
import { Context } from '../context.js';
import type { Actor, ActingRequest } from '../http/actor.js';
import { Places } from '../http/places.js';
import { asAppError, problemText, PROBLEM_TYPE } from '../http/problem.filter.js';
import { declarationOf } from '../http/require.decorator.js';
import { isInputRefusal } from '../http/validation.pipe.js';
import { wireText } from '../http/wire-text.js';
import { claimKey, insertKeptAnswer, type KeyPlace, type StoredRow } from './idempotency.store.js';
import { Apart, KeyedTransaction } from './keyed-transaction.js';
import { StoredAnswer } from './stored-answer.js';

const MUTATIONS: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH', 'DELETE']);
const KEY = /^[\x20-\x7e]{1,255}$/;
const RETRY_AFTER_MS = 1_000;
/** Headers of an answer that belong to it and not to the request. */
const KEPT_HEADERS = ['content-type', 'etag', 'location'] as const;
/** Keyed requests that may wait for a place. */
const WAITING_MAX = 200;

/** Carries a refusal out of a transaction that must be rolled back and not tried again. */
class NotKept {
  constructor(readonly reason: unknown) {}
}

@Injectable()
export class IdempotencyInterceptor implements NestInterceptor {
  readonly #secret: Buffer;
  /** A keyed request holds a connection while its handler may want a second: half the pool, so that nobody starves. */
  readonly #places: Places;
  /** Keys whose requests wait for another process; taken while the key is locked, so that no second one waits too. */
  readonly #apart = new Set<string>();

  constructor(private readonly context: Context) {
    const { DATA_KEY, DATABASE_CONNECTIONS } = context.config;
    this.#secret = Buffer.from(hkdfSync('sha256', DATA_KEY, '', 'idempotency', 32));
    this.#places = new Places(Math.max(1, Math.floor(DATABASE_CONNECTIONS / 2)), WAITING_MAX);
  }

  intercept(execution: ExecutionContext, next: CallHandler): Observable<unknown> {
    const http = execution.switchToHttp();
    const request = http.getRequest<ActingRequest>();
    const key = request.headers['idempotency-key'];
    if (key === undefined || !MUTATIONS.has(request.method)) return next.handle();
    if (typeof key !== 'string' || !KEY.test(key)) {
      throw new AppError('invalid_input', 'Idempotency-Key must have 1 to 255 printable ASCII characters', {
        field: 'Idempotency-Key',
      });
    }
    const { actor } = request;
    // A public route has nobody whose key it could be; each says for itself why a repetition is harmless.
    if (actor === undefined || declarationOf(execution.getHandler())?.withoutKey !== undefined)
      return next.handle();
    return from(this.#once(request, actor, key, http.getResponse<FastifyReply>(), next));
  }

  async #once(
    request: ActingRequest,
    actor: Actor,
    key: string,
    reply: FastifyReply,
    next: CallHandler,
  ): Promise<unknown> {
    const place = this.#placeOf(actor, key);
    const requestHash = this.#hash(
      ...[request.method, request.url, request.headers['if-match'] ?? ''],
      request.body === undefined ? '' : canonicalJson(request.body),
    );
    const settings = { tenantId: place.tenantId, accountId: actor.accountId ?? '' };
    const name = place.keyHash.toString('hex');
    const run = (work: () => Promise<unknown>, isSecond: boolean): Promise<Ended> =>
      withTransaction(
        this.context.pool,
        async (client) => {
          const { locked, answer } = await claimKey(client, place, isSecond);
          if (answer !== null) throw new NotKept(this.#replay(place, requestHash, answer));
          if (!locked || (!isSecond && this.#apart.has(name))) {
            throw new AppError('pending', 'the first request with this Idempotency-Key is still under way', {
              ...{ field: 'Idempotency-Key', retryAfterMs: RETRY_AFTER_MS },
            });
          }
          const keyed = new KeyedTransaction(client);
          const ended = await keyed.run(() => this.#ended(work, reply, request.id));
          if (ended instanceof Apart) {
            this.#apart.add(name);
            throw new NotKept(ended);
          }
          if ('error' in ended && !isKept(ended.error)) throw new NotKept(ended.error);
          const row = this.#row(place, requestHash, ended);
          const at = new Date(this.context.clock.now());
          await keyed.step(settings, () => insertKeptAnswer(client, place, row, at));
          return ended;
        },
        settings,
      );
    const transact = async (work: () => Promise<unknown>, isSecond: boolean): Promise<unknown> => {
      const ended = await this.#places
        .with(() => run(work, isSecond))
        .catch((error: unknown) => {
          throw error instanceof NotKept ? error.reason : error;
        });
      if ('error' in ended) throw ended.error;
      return ended.value;
    };
    try {
      return await transact(() => lastValueFrom(next.handle(), { defaultValue: undefined }), false);
    } catch (error) {
      if (!(error instanceof Apart)) throw error;
      try {
        return await transact(await finishOf(error), true);
      } finally {
        this.#apart.delete(name);
      }
    }
  }

  async #ended(work: () => Promise<unknown>, reply: FastifyReply, requestId: string): Promise<Ended | Apart> {
    try {
      const value = await work();
      return { value, status: reply.statusCode, headers: keptHeaders(reply), text: wireText(value) };
    } catch (error) {
      if (error instanceof Apart) return error;
      const problem = asAppError(error);
      const headers = { 'content-type': PROBLEM_TYPE };
      return { error, status: problem.httpStatus, headers, text: problemText(problem, requestId) };
    }
  }

  #placeOf(actor: Actor, key: string): KeyPlace {
    const { tenantId, keyId, accountId } = actor;
    const actorId = keyId ?? accountId;
    if (actorId === null) throw new AppError('unauthenticated', 'sign in first');
    return { tenantId, actorId, keyHash: this.#hash(tenantId, actorId, key) };
  }

  #row(place: KeyPlace, requestHash: Buffer, { status, headers, text }: Ended): StoredRow {
    const body = sealSecret(this.context.config.DATA_KEY, Buffer.from(text), secretPlace(place));
    return { requestHash, status, headers, body };
  }

  #replay(place: KeyPlace, requestHash: Buffer, row: StoredRow): StoredAnswer | AppError {
    if (!row.requestHash.equals(requestHash)) {
      return new AppError('idempotency_mismatch', 'this Idempotency-Key was used for another request', {
        field: 'Idempotency-Key',
      });
    }
    const text = openSecret(this.context.config.DATA_KEY, row.body, secretPlace(place)).toString();
    return new StoredAnswer(row.status, row.headers, text);
  }

  /** Keyed: a request may hold a password, and its plain hash could be tried against a list. */
  #hash(...parts: string[]): Buffer {
    return createHmac('sha256', this.#secret).update(JSON.stringify(parts)).digest();
  }
}

interface Answered {
  status: number;
  headers: Record<string, string>;
  text: string;
}
type Ended = Answered & ({ value: unknown } | { error: unknown });

/** Answers that mean "the same again, later". */
const LATER: ReadonlySet<ErrorCode> = new Set(['unavailable', 'rate_limited', 'pending']);

/** What is left to do when the other process has answered: its refusal is kept like any other. */
async function finishOf({ ask }: Apart): Promise<() => Promise<unknown>> {
  try {
    return await ask();
  } catch (error) {
    if (!isKept(error)) throw error;
    return () => Promise.reject(error as Error);
  }
}

function isKept(error: unknown): boolean {
  return !isInputRefusal(error) && !LATER.has(asAppError(error).code);
}

function keptHeaders(reply: FastifyReply): Record<string, string> {
  const headers: Record<string, string> = { 'content-type': 'application/json; charset=utf-8' };
  for (const name of KEPT_HEADERS) {
    const value = reply.getHeader(name);
    if (value !== undefined) headers[name] = String(value);
  }
  if (reply.statusCode === 204) delete headers['content-type'];
  return headers;
}

function secretPlace({ tenantId, actorId, keyHash }: KeyPlace): {
  table: string;
  tenant: string;
  row: string;
} {
  return { table: 'idempotency_key', tenant: tenantId, row: `${actorId} ${keyHash.toString('hex')}` };
}

/** Puts the interceptor before every handler that changes something, and no other: reads do not pay for it. */
export function interceptMutations(controllers: readonly Type[]): void {
  for (const { prototype } of controllers) {
    for (const name of Object.getOwnPropertyNames(prototype)) {
      const handler = (prototype as Record<string, unknown>)[name];
      if (typeof handler !== 'function') continue;
      const method = Reflect.getMetadata(METHOD_METADATA, handler) as RequestMethod | undefined;
      if (method === undefined || !MUTATIONS.has(RequestMethod[method])) continue;
      Reflect.defineMetadata(INTERCEPTORS_METADATA, [IdempotencyInterceptor], handler);
    }
  }
}
