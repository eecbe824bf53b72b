// Client of Xray's API over its unix socket: typed calls, each with a deadline. Every value is checked before it is
// sent, because a malformed call kills Xray (wire.ts). Only this file speaks gRPC to the engine.
import { Client, credentials, Metadata, status } from '@grpc/grpc-js';
import type { ServiceError } from '@grpc/grpc-js';
import { AppError } from '@penstock/domain/errors';
import type { Clock } from '@penstock/domain/clock';
import type { SubscriptionId } from '@penstock/domain/ids';
import { BLOCKED_TAG, isUuid } from './config.js';
import type { XrayUser } from './config.js';
import * as wire from './wire.js';
import type { HeldUser, Stat, SysStats } from './wire.js';

const HANDLER = '/xray.app.proxyman.command.HandlerService';
const STATS = '/xray.app.stats.command.StatsService';
const ROUTING = '/xray.app.router.command.RoutingService';

const CALL_TIMEOUT_MS = 5_000;
/** Lists of all users or counters: 0.2–0.8 s at 50,000 users. */
const LIST_TIMEOUT_MS = 20_000;
/** 64 calls in flight add 3,900 users a second; more gains nothing (dataplane A9). */
export const CALLS_IN_FLIGHT_MAX = 64;

/** Runs `call` for each item, at most CALLS_IN_FLIGHT_MAX at a time. The first error wins, after all have settled. */
export async function bounded<T, R>(items: Iterable<T>, call: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  const errors: unknown[] = [];
  const queue = [...items].entries();
  const worker = async (): Promise<void> => {
    for (const [index, item] of queue) {
      try {
        results[index] = await call(item);
      } catch (error) {
        errors.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: CALLS_IN_FLIGHT_MAX }, worker));
  if (errors.length > 0) throw errors[0];
  return results;
}

export class XrayApi {
  readonly #client: Client;
  readonly #tags: ReadonlySet<string>;
  readonly #clock: Clock;

  /** `tags`: the VLESS inbounds; a call for any other tag is refused here. */
  constructor(socketPath: string, tags: Iterable<string>, clock: Clock) {
    this.#tags = new Set(tags);
    this.#clock = clock;
    this.#client = new Client(`unix:${socketPath}`, credentials.createInsecure(), {
      // 100,000 counters do not fit the default of 4 MiB.
      'grpc.max_receive_message_length': -1,
      // The socket is local: try again at once while Xray starts.
      'grpc.initial_reconnect_backoff_ms': 20,
      'grpc.min_reconnect_backoff_ms': 20,
      'grpc.max_reconnect_backoff_ms': 200,
      'grpc.enable_retries': 0,
    });
  }

  close(): void {
    this.#client.close();
  }

  /** Adds a user to an inbound. False when his email is there already (with whatever credential). */
  async addUser(tag: string, user: XrayUser): Promise<boolean> {
    this.#check(tag, user.subscriptionId);
    if (!isUuid(user.vlessId) || (user.flow !== '' && user.flow !== 'xtls-rprx-vision')) {
      throw new AppError('internal', 'an Xray user reached the API without being validated');
    }
    return this.#unless('already exists', `${HANDLER}/AlterInbound`, wire.encodeAddUser(tag, user));
  }

  /** Removes a user from an inbound. False when he was not there. His open connections go on. */
  async removeUser(tag: string, id: SubscriptionId): Promise<boolean> {
    this.#check(tag, id);
    return this.#unless('not found', `${HANDLER}/AlterInbound`, wire.encodeRemoveUser(tag, id));
  }

  /** What an inbound holds: all users, or one (null when unknown). */
  async getInboundUsers(tag: string): Promise<HeldUser[]> {
    this.#check(tag);
    return this.#call(
      `${HANDLER}/GetInboundUsers`,
      wire.encodeGetUsers(tag, ''),
      wire.decodeUsers,
      LIST_TIMEOUT_MS,
    );
  }

  async getInboundUser(tag: string, id: SubscriptionId): Promise<HeldUser | null> {
    this.#check(tag, id);
    const users = await this.#call(
      `${HANDLER}/GetInboundUsers`,
      wire.encodeGetUsers(tag, id),
      wire.decodeUsers,
    );
    return users[0] ?? null;
  }

  async getInboundUsersCount(tag: string): Promise<number> {
    this.#check(tag);
    return this.#call(`${HANDLER}/GetInboundUsersCount`, wire.encodeGetUsers(tag, ''), wire.decodeCount);
  }

  /** Counters whose name contains `pattern`, absolute; never reset. */
  async queryStats(pattern: string): Promise<Stat[]> {
    return this.#call(`${STATS}/QueryStats`, wire.encodeName(pattern), wire.decodeStats, LIST_TIMEOUT_MS);
  }

  /** One counter; 0 before its first byte. */
  async getStat(name: string): Promise<bigint> {
    const stats = await this.#orNull(
      this.#call(`${STATS}/GetStats`, wire.encodeName(name), wire.decodeStats),
    );
    return stats?.[0]?.value ?? 0n;
  }

  /** Addresses that the customer is connected from now. Xray never counts loopback clients. */
  async onlineIps(id: SubscriptionId): Promise<string[]> {
    const name = `user>>>${id}>>>online`;
    const call = this.#call(`${STATS}/GetStatsOnlineIpList`, wire.encodeName(name), wire.decodeOnlineIps);
    return (await this.#orNull(call)) ?? [];
  }

  async sysStats(timeoutMs = CALL_TIMEOUT_MS): Promise<SysStats> {
    return this.#call(`${STATS}/GetSysStats`, wire.EMPTY, wire.decodeSysStats, timeoutMs);
  }

  /** Appends the rule that sends every new stream of these customers nowhere. The tag must be new. */
  async addRule(ruleTag: string, ids: readonly SubscriptionId[]): Promise<void> {
    if (ruleTag === '' || ids.length === 0 || !ids.every(isUuid)) {
      throw new AppError('internal', 'a rule reached the API without being validated');
    }
    await this.#call(`${ROUTING}/AddRule`, wire.encodeAddRule(ruleTag, BLOCKED_TAG, ids), () => undefined);
  }

  /** Drops a rule; an unknown tag is no error. */
  async removeRule(ruleTag: string): Promise<void> {
    await this.#call(`${ROUTING}/RemoveRule`, wire.encodeName(ruleTag), () => undefined);
  }

  async ruleTags(): Promise<string[]> {
    return this.#call(`${ROUTING}/ListRule`, wire.EMPTY, wire.decodeRuleTags);
  }

  #check(tag: string, id?: SubscriptionId): void {
    if (!this.#tags.has(tag) || (id !== undefined && !isUuid(id))) {
      throw new AppError('internal', 'a call to Xray named an unknown inbound or a malformed id');
    }
  }

  /** No error of Xray's user calls has a code of its own, so the text decides. */
  async #unless(text: string, method: string, request: Uint8Array): Promise<boolean> {
    try {
      await this.#call(method, request, () => undefined);
      return true;
    } catch (error) {
      const cause = error instanceof AppError ? (error.cause as ServiceError | undefined) : undefined;
      if (cause?.code === status.UNKNOWN && cause.details.includes(text)) return false;
      throw error;
    }
  }

  async #orNull<T>(call: Promise<T>): Promise<T | null> {
    return call.catch((error: unknown) => {
      if (error instanceof AppError && error.code === 'not_found') return null;
      throw error;
    });
  }

  #call<T>(
    method: string,
    request: Uint8Array,
    decode: (bytes: Uint8Array) => T,
    timeoutMs = CALL_TIMEOUT_MS,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        method,
        (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
        decode,
        request,
        new Metadata({ waitForReady: false }),
        { deadline: this.#clock.now() + timeoutMs },
        (error, value) => {
          if (error !== null) reject(translate(error));
          else if (value === undefined) resolve(undefined as T);
          else resolve(value);
        },
      );
    });
  }
}

function translate(error: ServiceError): AppError {
  if (error.code === status.NOT_FOUND)
    return new AppError('not_found', 'Xray does not know this name', { cause: error });
  if (
    error.code === status.UNAVAILABLE ||
    error.code === status.DEADLINE_EXCEEDED ||
    error.code === status.CANCELLED
  ) {
    return new AppError('unavailable', 'Xray does not answer its API', { cause: error, retryAfterMs: 250 });
  }
  return new AppError('internal', 'Xray refused a call', { cause: error });
}
