// Answers as CSV: asked for by `Accept: text/csv` or `?format=csv`. Cells are ids, numbers, times and words of ours, never
// text that a person typed, so that no cell can begin a formula.
import { Readable } from 'node:stream';
import { createParamDecorator, StreamableFile, type ExecutionContext } from '@nestjs/common';
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';

/** The query field; it goes before the header. */
export const format = z
  .enum(['json', 'csv'])
  .optional()
  .meta({ description: 'csv: the same as `Accept: text/csv`.' });
export type Format = z.output<typeof format>;

/** True when the Accept header names text/csv, and application/json not before it. */
export const AcceptsCsv = createParamDecorator((_data: unknown, context: ExecutionContext): boolean => {
  const accept = context.switchToHttp().getRequest<FastifyRequest>().headers.accept ?? '';
  const csv = accept.indexOf('text/csv');
  const json = accept.indexOf('application/json');
  return csv >= 0 && (json < 0 || csv < json);
});

export function wantsCsv(given: Format, accepts: boolean): boolean {
  return given === undefined ? accepts : given === 'csv';
}

type Cell = string | bigint | number | Date | null;

/** One record with its end. */
export function csvLine(cells: readonly Cell[]): string {
  const texts = cells.map((cell) => (cell instanceof Date ? cell.toISOString() : String(cell ?? '')));
  return `${texts.map((text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text)).join(',')}\r\n`;
}

/** `name`: of the file that a browser saves. */
export function csvFile(lines: Iterable<string> | AsyncIterable<string>, name: string): StreamableFile {
  return new StreamableFile(Readable.from(lines, { objectMode: false }), {
    type: 'text/csv; charset=utf-8; header=present',
    disposition: `attachment; filename="${name}"`,
  });
}
