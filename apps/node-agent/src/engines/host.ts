// The engines of this node: made from the node's configuration as the scheduler states it, kept by name. An engine
// whose binary is missing is absent here, said in the heartbeat, and admits nobody.
import type { Access } from '@penstock/domain/access';
import { AppError } from '@penstock/domain/errors';
import { engines as engineNames, type Engine as EngineName } from '@penstock/domain/terms';
import { NodeConfig, type Inbound } from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import type { EngineStatus } from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';
import type { Logger } from '@penstock/service/logger';
import type { Engine } from './engine.js';

/**
 * Makes an engine for its inbounds. Where this machine cannot run it, `problem` says why and `endLeftover` ends what an
 * earlier run may have left serving: an engine that is absent here must admit nobody.
 */
export type EngineFactory = (
  inbounds: Inbound[],
) => { engine: Engine } | { problem: string; endLeftover: () => Promise<void> };

export class EngineHost {
  private readonly running = new Map<EngineName, Engine>();
  private readonly problems = new Map<EngineName, string>();
  private config = Buffer.alloc(0);

  constructor(
    private readonly factories: ReadonlyMap<EngineName, EngineFactory>,
    private readonly log: Logger,
  ) {}

  all(): ReadonlyMap<EngineName, Engine> {
    return this.running;
  }

  get(name: EngineName): Engine | undefined {
    return this.running.get(name);
  }

  /**
   * Makes the engines that the configuration names. An engine whose inbounds changed is ended and made anew; the caller
   * starts it. `beforeStop` ends its sessions and takes the last reading. Unchanged configuration does nothing.
   */
  async configure(config: Buffer, beforeStop: (engine: Engine) => Promise<void>): Promise<void> {
    if (config.equals(this.config)) return;
    const before = NodeConfig.decode(this.config);
    const after = NodeConfig.decode(config);
    for (const name of engineNames) {
      const wanted = after.inbounds.filter((inbound) => inbound.engine === name);
      const had = before.inbounds.filter((inbound) => inbound.engine === name);
      const current = this.running.get(name);
      if (current !== undefined && JSON.stringify(had) === JSON.stringify(wanted)) continue;
      const factory = this.factories.get(name);
      // Made first: a configuration that the engine refuses leaves the old one running.
      let made: ReturnType<EngineFactory> | undefined;
      try {
        made = wanted.length === 0 ? undefined : factory?.(wanted);
      } catch (error) {
        this.problems.set(name, error instanceof Error ? error.message : String(error));
        this.log.error({ engine: name, error }, 'the engine refuses its configuration');
        continue;
      }
      if (current !== undefined) {
        await beforeStop(current);
        await current.stop();
        this.running.delete(name);
      }
      this.problems.delete(name);
      if (made === undefined) continue;
      if ('engine' in made) this.running.set(name, made.engine);
      else {
        this.problems.set(name, made.problem);
        this.log.warn({ engine: name, reason: made.problem }, 'engine is missing');
        await made.endLeftover();
      }
    }
    this.config = Buffer.from(config);
  }

  /** Starts or adopts every engine with these users. An engine that fails is reported in its status. */
  async startAll(desired: Access[]): Promise<void> {
    for (const [name, engine] of this.running) {
      try {
        await engine.start(desired);
        this.problems.delete(name);
      } catch (error) {
        this.problems.set(name, error instanceof Error ? error.message : String(error));
        this.log.error({ engine: name, error }, 'engine did not start');
      }
    }
  }

  /** Throws what the engine says of an access it could not take. */
  validate(access: Access): void {
    for (const [name, engine] of this.running) {
      try {
        engine.validate(access);
      } catch (error) {
        if (error instanceof AppError) throw error;
        throw new AppError('invalid_input', `${name} cannot take this access`, { cause: error });
      }
    }
  }

  async status(): Promise<EngineStatus[]> {
    const out: EngineStatus[] = [];
    for (const name of engineNames) {
      const engine = this.running.get(name);
      if (engine !== undefined) {
        const health = await engine
          .health()
          .catch(() => ({ running: false, version: '', problem: 'does not answer' }));
        const problem = this.problems.get(name) ?? health.problem;
        out.push({ engine: name, running: health.running, version: health.version, problem });
      } else if (this.problems.has(name)) {
        out.push({ engine: name, running: false, version: '', problem: this.problems.get(name) ?? '' });
      }
    }
    return out;
  }

  async detachAll(): Promise<void> {
    for (const engine of this.running.values()) await engine.detach();
  }

  async stopAll(): Promise<void> {
    for (const engine of this.running.values()) await engine.stop();
  }
}
