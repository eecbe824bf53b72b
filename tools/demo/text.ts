// How the demo writes figures and lines. Pure; called by board.ts and report.ts.
import { styleText } from 'node:util';

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'cyan';

/** Adds colour where the terminal takes it (a pipe, NO_COLOR: the text alone). */
export type Paint = (style: Style | Style[], text: string) => string;

export function painter(stream: NodeJS.WriteStream): Paint {
  return (style, text) => styleText(style, text, { stream });
}

/** `12,345,678` */
export function grouped(bytes: bigint | number): string {
  return bytes.toLocaleString('en-US');
}

/** `2.1 MB/s` */
export function rateText(bytesPerSecond: number): string {
  return `${(bytesPerSecond / 1_000_000).toFixed(bytesPerSecond < 100_000 ? 2 : 1)} MB/s`;
}

/** `412 ms` or `3.4 s` */
export function durationText(ms: number): string {
  return ms < 10_000 ? `${grouped(Math.round(ms))} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** ████░░ for a part of a whole; a part above the whole fills it. */
export function bar(part: number, cells: number): string {
  const full = Math.max(0, Math.min(cells, Math.floor(part * cells)));
  return '█'.repeat(full) + '░'.repeat(cells - full);
}

/** One row of the tables: what it is, three figures, a remark. Widths are the same everywhere. */
export function row(name: string, figures: readonly string[], remark = ''): string {
  const [client = '', engine = '', ledger = ''] = figures;
  return `  ${name.padEnd(12)}${client.padStart(14)}${engine.padStart(15)}${ledger.padStart(15)}  ${remark}`.trimEnd();
}

export const COLUMNS = ['at the client', 'in the engine', 'in the ledger'] as const;
