// Periodic tasks: a task takes no input, is idempotent, and runs on a timer and on a poke. One process at a time runs a
// given task (an advisory lock on a connection of its own for the run); the others skip. A run that fails is logged
// once and comes again with the next tick; there are no retries inside.
import type { Pool } from '@penstock/db/pool';
import { run, statement, type Runner } from '@penstock/db/statement';
import type { Clock } from '@penstock/domain/clock';
import type { Logger } from '@penstock/service/logger';
import type { SchedulerMetrics, TaskName } from '../metrics.js';

export interface Task {
  name: TaskName;
  intervalMs: number;
  /** `db`: a connection that holds the task's lock; no transaction is open on it. */
  run(db: Runner): Promise<void>;
}

const tryLock = statement<{ locked: boolean }>(
  'task.lock',
  `SELECT pg_try_advisory_lock(hashtextextended('task ' || $1, 0)) AS locked`,
);
const unlock = statement('task.unlock', `SELECT pg_advisory_unlock(hashtextextended('task ' || $1, 0))`);

export interface DriverDeps {
  pool: Pool;
  clock: Clock;
  log: Logger;
  metrics: SchedulerMetrics;
}

export class TaskDriver {
  private readonly timers: NodeJS.Timeout[] = [];
  private readonly running = new Map<TaskName, Promise<void>>();
  private readonly failing = new Set<TaskName>();
  private closed = false;

  constructor(private readonly deps: DriverDeps) {}

  /** Runs each task now and then at its interval. */
  start(tasks: readonly Task[]): void {
    for (const task of tasks) {
      void this.poke(task);
      const timer = setInterval(() => void this.poke(task), task.intervalMs);
      timer.unref();
      this.timers.push(timer);
    }
  }

  /** Runs the task unless it runs here already; resolves when the run is over, and never rejects. */
  async poke(task: Task): Promise<void> {
    if (this.closed) return;
    const running = this.running.get(task.name);
    if (running !== undefined) return running;
    const next = this.runOnce(task).finally(() => this.running.delete(task.name));
    this.running.set(task.name, next);
    await next;
  }

  async close(): Promise<void> {
    this.closed = true;
    this.timers.forEach(clearInterval);
    await Promise.all(this.running.values());
  }

  private async runOnce(task: Task): Promise<void> {
    const { pool, clock, log, metrics } = this.deps;
    const started = clock.monotonic();
    let broken: Error | undefined;
    try {
      const db = await pool.connect();
      try {
        const [lock] = await run(db, tryLock, [task.name]);
        if (lock?.locked !== true) return;
        try {
          await task.run(db);
        } finally {
          await run(db, unlock, [task.name]);
        }
      } catch (error) {
        // Closing the connection lets go of the lock in any case.
        broken = error as Error;
        throw error;
      } finally {
        db.release(broken);
      }
      metrics.taskRuns.inc({ task: task.name, outcome: 'done' });
      this.failing.delete(task.name);
      log.debug({ task: task.name, durationMs: Math.round(clock.monotonic() - started) }, 'task done');
    } catch (error) {
      metrics.taskRuns.inc({ task: task.name, outcome: 'failed' });
      // Once, not with every tick while the database is away.
      if (!this.failing.has(task.name)) log.warn({ task: task.name, error }, 'task failed');
      this.failing.add(task.name);
    }
  }
}
