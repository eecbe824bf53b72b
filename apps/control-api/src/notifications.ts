// What other processes of control-api changed, told over one LISTEN connection. A notification is a nudge and may be
// lost: every listener also has a bound after which it looks by itself.
import { Injectable, type OnApplicationBootstrap, type OnModuleDestroy } from '@nestjs/common';
import { listen, type Listener } from '@penstock/db/listen';
import { Context } from './context.js';

/** The payload is empty after a (re)connect: anything may have been missed. */
type Told = (payload: string) => void;

@Injectable()
export class Notifications implements OnApplicationBootstrap, OnModuleDestroy {
  readonly #told = new Map<string, Told[]>();
  #listener: Listener | undefined;

  constructor(private readonly context: Context) {}

  /** Called in constructors: the connection is made once, when the module stands. */
  on(channel: string, told: Told): void {
    this.#told.set(channel, [...(this.#told.get(channel) ?? []), told]);
  }

  onApplicationBootstrap(): void {
    const { config, log } = this.context;
    this.#listener = listen(
      config.DATABASE_URL,
      [...this.#told.keys()],
      (channel, payload) => this.#told.get(channel)?.forEach((told) => told(payload)),
      log,
    );
  }

  async onModuleDestroy(): Promise<void> {
    await this.#listener?.close();
  }
}
