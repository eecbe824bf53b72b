// The live table: who has moved how much as his own end, the engine and the ledger count it, quota and state, and what
// happened so far. Pure: view → lines. Called by main.ts some times a second.
import type { Engine } from '@penstock/domain/terms';
import type { PathReport } from './client-lines.js';
import type { Bytes } from './figures.js';
import { bar, COLUMNS, grouped, rateText, row, type Paint } from './text.js';
import type { Picture } from './watch.js';

const BAR_CELLS = 24;
const EVENTS_SHOWN = 8;
/** A stream without a byte for so long is called silent. */
const SILENT_MS = 500;

export const ENGINE_NAMES: Record<Engine, string> = { xray: 'Xray', wireguard: 'WireGuard' };

export interface Happening {
  atMs: number;
  text: string;
}

export interface View {
  seed: number;
  elapsedMs: number;
  title: string;
  pictures: readonly Picture[];
  /** Nobody sends any more: silence is no news. */
  still: boolean;
  /** Payload bytes a second by customer's label and engine. */
  rates: ReadonlyMap<string, number>;
  happenings: readonly Happening[];
}

export function boardLines(view: View, paint: Paint): string[] {
  const clock = `seed ${view.seed} · ${(view.elapsedMs / 1000).toFixed(1)} s`;
  const lines = [
    '',
    `  ${paint('bold', view.title.padEnd(50))}${paint('dim', clock.padStart(26))}`,
    '',
    paint('dim', row('', [...COLUMNS])),
  ];
  for (const picture of view.pictures) lines.push(...customerLines(picture, view, paint), '');
  for (const { atMs, text } of view.happenings.slice(-EVENTS_SHOWN)) {
    lines.push(`  ${paint('dim', `${(atMs / 1000).toFixed(1).padStart(5)} s`)}  ${text}`);
  }
  return lines;
}

export function customerTitle(label: string): string {
  return label === 'A' ? 'Customer A' : `Customer ${label}, A's neighbour on the same node`;
}

function customerLines(picture: Picture, { rates, still }: View, paint: Paint): string[] {
  const { customer, client, engine, booked } = picture;
  const lines = [`  ${paint('bold', customerTitle(customer.label))}`];
  for (const path of client.paths) {
    const shown = engine.get(path.engine) ?? null;
    const figures = [
      grouped(path.sentBytes + path.receivedBytes),
      shown === null ? 'peer removed' : grouped(sum(shown)),
      grouped(sum(booked.ledger.get(path.engine))),
    ];
    const rate = rates.get(`${customer.label} ${path.engine}`) ?? 0;
    lines.push(row(ENGINE_NAMES[path.engine], figures, doing(path, client.atMs, still ? null : rate, paint)));
  }
  const { quotaBytes } = customer.subscription;
  const part = Number(booked.used) / Number(quotaBytes);
  const colour = part >= 1 ? 'red' : part > 0.75 ? 'yellow' : 'green';
  const state = paint(booked.state === 'active' ? 'green' : ['bold', 'red'], booked.state);
  lines.push(
    `  ${'used'.padEnd(12)} ${paint(colour, bar(part, BAR_CELLS))}${`${Math.floor(part * 100)} %`.padStart(6)}` +
      ` of ${grouped(quotaBytes).padStart(11)}  ${state}`,
  );
  return lines;
}

/** `rate` is null when everything stands still on purpose. */
function doing(path: PathReport, atMs: number, rate: number | null, paint: Paint): string {
  switch (path.phase) {
    case 'waiting':
      return '';
    case 'uploads':
      return '▲ a file';
    case 'downloads':
      return '▼ a file';
    case 'streams': {
      const silentMs = atMs - path.lastByteAtMs;
      if (rate === null) return paint('dim', 'at rest');
      if (silentMs < SILENT_MS) return paint('cyan', `▼ ${rateText(rate)}`);
      return paint('red', `silent for ${(silentMs / 1000).toFixed(1)} s`);
    }
    case 'ended':
      return paint('red', '✂ connection ended');
  }
}

export function sum(bytes: Bytes | undefined | null): bigint {
  return bytes === undefined || bytes === null ? 0n : bytes.up + bytes.down;
}
