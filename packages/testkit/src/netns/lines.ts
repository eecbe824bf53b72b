// Follows the JSON lines that a traffic process prints: keeps them, and waits for the first that fits.
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';

export type JsonLine = Record<string, unknown>;

export interface LineFollower {
  /** All lines so far, oldest first; only the last 10,000 are kept. */
  lines: JsonLine[];
  /** The newest line of that event. */
  last(event: string): JsonLine | undefined;
  /** The first line from now on (or among the kept ones when `past`) that fits; rejects after `timeoutMs`. */
  next(
    fits: (line: JsonLine) => boolean,
    options?: { past?: boolean; timeoutMs?: number },
  ): Promise<JsonLine>;
}

const LINES_MAX = 10_000;

export function followLines(child: ChildProcess): LineFollower {
  const lines: JsonLine[] = [];
  const waiting = new Set<(line: JsonLine) => void>();
  let stderr = '';
  child.stderr?.on('data', (data: Buffer) => (stderr = (stderr + data.toString()).slice(-1000)));
  if (child.stdout !== null) {
    createInterface({ input: child.stdout }).on('line', (text) => {
      const line = JSON.parse(text) as JsonLine;
      lines.push(line);
      if (lines.length > LINES_MAX) lines.shift();
      for (const see of [...waiting]) see(line);
    });
  }
  return {
    lines,
    last: (event) => lines.findLast((line) => line['event'] === event),
    next: (fits, { past = false, timeoutMs = 15_000 } = {}) => {
      const found = past ? lines.find(fits) : undefined;
      if (found !== undefined) return Promise.resolve(found);
      return new Promise((resolve, reject) => {
        const see = (line: JsonLine): void => {
          if (!fits(line)) return;
          clearTimeout(timer);
          waiting.delete(see);
          resolve(line);
        };
        const timer = setTimeout(() => {
          waiting.delete(see);
          reject(new Error(`no such line within ${timeoutMs} ms; stderr: ${stderr}`));
        }, timeoutMs);
        waiting.add(see);
      });
    },
  };
}
