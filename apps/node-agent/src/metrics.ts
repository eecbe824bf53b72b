// Metrics of the node-agent, filled when they are read. No ids, no addresses: aggregates of this process alone.
import { Gauge } from 'prom-client';
import type { Metrics } from '@penstock/service/metrics';
import type { AccountingStatus } from './accounting/accounting.js';

export interface AgentState {
  accounting: AccountingStatus;
  connected: boolean;
}

export function agentMetrics(metrics: Metrics, read: () => AgentState): void {
  const gauge = (name: string, help: string, value: (state: AgentState) => number): void => {
    const made: Gauge = new Gauge({
      name,
      help,
      registers: [metrics.registry],
      collect: () => made.set(value(read())),
    });
  };
  gauge('journal_bytes', 'Bytes of the journal on disk', (s) => s.accounting.journalBytes);
  gauge('journal_bytes_max', 'Bytes the journal may take', (s) => s.accounting.journalCapBytes);
  gauge('journal_frames', 'Frames that nobody acknowledged yet', (s) => s.accounting.frames);
  gauge('window_milliseconds', 'Length of the current window', (s) => s.accounting.windowMs);
  gauge('meters', 'Meters that are known', (s) => s.accounting.meters);
  gauge('wal_corrupt_total', 'Damaged records found in the journal', (s) => s.accounting.corruptRecords);
  gauge('collector_connected', '1 while the usage stream is open', (s) => Number(s.accounting.connected));
  gauge('scheduler_connected', '1 while the enforcement stream is open', (s) => Number(s.connected));
  gauge('degraded', '1 while something is wrong (see /ready)', (s) =>
    Number(s.accounting.degraded.length > 0),
  );
}
