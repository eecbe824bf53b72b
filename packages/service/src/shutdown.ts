// How a process ends: on SIGTERM or SIGINT the steps run in order (stop intake, drain, flush, close); past the
// deadline, or on a second signal, it ends at once. A fault nobody caught is logged once and ends the process: the
// supervisor starts it again from state.
import type { Logger } from './logger.js';

export interface ShutdownStep {
  name: string;
  run(): Promise<void>;
}

export const EXIT_FAULT = 70;

export function onShutdown(log: Logger, steps: ShutdownStep[], deadlineMs = 10_000): void {
  let ending = false;
  const end = (signal: string): void => {
    if (ending) process.exit(1);
    ending = true;
    log.info({ signal }, 'stopping');
    const timer = setTimeout(() => {
      log.error({ ms: deadlineMs }, 'shutdown deadline passed');
      process.exit(1);
    }, deadlineMs);
    timer.unref();
    void (async () => {
      let failed = false;
      for (const step of steps) {
        try {
          await step.run();
        } catch (error) {
          failed = true;
          log.error({ step: step.name, error }, 'shutdown step failed');
        }
      }
      process.exit(failed ? 1 : 0);
    })();
  };
  process.on('SIGTERM', () => end('SIGTERM'));
  process.on('SIGINT', () => end('SIGINT'));
  const fault = (error: unknown): void => {
    log.error({ error }, 'uncaught fault');
    process.exit(EXIT_FAULT);
  };
  process.on('uncaughtException', fault);
  process.on('unhandledRejection', fault);
}
