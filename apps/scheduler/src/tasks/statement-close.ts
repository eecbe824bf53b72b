// Closes the monthly statements that are due, also those of a downtime.
import type { Clock } from '@penstock/domain/clock';
import { closeDue, type CloseDeps } from '../statements/close.js';
import type { Task } from './driver.js';

export const STATEMENTS_INTERVAL_MS = 600_000;

export function statementClose(deps: CloseDeps, clock: Clock): Task {
  return {
    name: 'statement-close',
    intervalMs: STATEMENTS_INTERVAL_MS,
    async run() {
      await closeDue(deps, clock.now());
    },
  };
}
