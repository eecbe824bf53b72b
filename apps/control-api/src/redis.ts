// The one connection to Redis. It holds only what may be lost: limits and hints. Invariant: nothing here throws into a
// request or makes it wait longer than COMMAND_MS; without Redis, or while it is away, `run` says null and the caller
// does what it does alone. After a failure nobody asks for AWAY_MS, so a hanging Redis costs one wait and not one each.
import { Injectable, type OnModuleDestroy } from '@nestjs/common';
import { Redis } from 'ioredis';
import { Context } from './context.js';

/** A command that takes longer has failed. */
const COMMAND_MS = 250;
const CONNECT_MS = 1_000;
const AWAY_MS = 1_000;
const RECONNECT_MIN_MS = 50;
const RECONNECT_MAX_MS = 2_000;

export interface Script {
  readonly name: string;
  readonly lua: string;
}

type Command = (keys: number, ...rest: (string | number)[]) => Promise<unknown>;

@Injectable()
export class RedisLink implements OnModuleDestroy {
  readonly #client: Redis | null;
  readonly #commands = new Map<string, Command>();
  #awayUntilMs = 0;
  #told = false;

  constructor(private readonly context: Context) {
    const { REDIS_URL } = context.config;
    this.#client = REDIS_URL === undefined ? null : connect(REDIS_URL);
    this.#client?.on('error', (error: Error) => this.#away(error));
    this.#client?.on('ready', () => this.#back());
  }

  /** A Redis is named in the configuration, there or not. */
  get configured(): boolean {
    return this.#client !== null;
  }

  /** One atomic step in Redis; null when there is none or it does not answer. */
  async run(script: Script, keys: readonly string[], values: readonly (string | number)[]): Promise<unknown> {
    const client = this.#client;
    if (client === null || client.status !== 'ready') return null;
    if (this.context.clock.monotonic() < this.#awayUntilMs) return null;
    try {
      return await this.#command(client, script)(keys.length, ...keys, ...values);
    } catch (error) {
      this.#away(error as Error);
      return null;
    }
  }

  onModuleDestroy(): void {
    this.#client?.disconnect();
  }

  #command(client: Redis, { name, lua }: Script): Command {
    const known = this.#commands.get(name);
    if (known !== undefined) return known;
    // EVALSHA, and EVAL once where the script is not known yet.
    client.defineCommand(name, { lua });
    const command = (client as unknown as Record<string, Command>)[name];
    if (command === undefined) throw new TypeError(`${name} is no command`);
    const bound = command.bind(client);
    this.#commands.set(name, bound);
    return bound;
  }

  #away(error: Error): void {
    this.#awayUntilMs = this.context.clock.monotonic() + AWAY_MS;
    if (this.#told) return;
    this.#told = true;
    // Not the error itself: its command holds what it was called with.
    this.context.log.warn({ reason: error.name }, 'Redis is away; limits are kept in this process');
  }

  #back(): void {
    this.#awayUntilMs = 0;
    if (this.#told) this.context.log.info({}, 'Redis is back');
    this.#told = false;
  }
}

function connect(url: string): Redis {
  return new Redis(url, {
    ...{ connectTimeout: CONNECT_MS, commandTimeout: COMMAND_MS, connectionName: 'penstock-control-api' },
    // A command that cannot go out now is answered from this process, not queued.
    ...{ enableOfflineQueue: false, maxRetriesPerRequest: 0, autoResendUnfulfilledCommands: false },
    retryStrategy: (attempt) =>
      Math.min(RECONNECT_MAX_MS, RECONNECT_MIN_MS * 2 ** Math.min(attempt, 10)) * (0.5 + Math.random() / 2),
  });
}
