// The demo's screen. On a terminal the board is drawn over itself; elsewhere (a pipe, a log, a window that is too low)
// it is printed every few seconds as plain lines. Invariant: end() and clear() leave cursor and line wrapping as they were.
// Called by main.ts.
import { systemClock } from '@penstock/domain/clock';
import { painter, type Paint } from './text.js';

const PLAIN_EVERY_MS = 4_000;
const ESCAPE = '\u001b[';
const HIDE_CURSOR = `${ESCAPE}?25l`;
const SHOW_CURSOR = `${ESCAPE}?25h`;
const NO_WRAP = `${ESCAPE}?7l`;
const WRAP = `${ESCAPE}?7h`;
const CLEAR_LINE = `${ESCAPE}K`;
const CLEAR_BELOW = `${ESCAPE}J`;

export class Terminal {
  readonly paint: Paint = painter(process.stdout);
  private height = 0;
  private hidden = false;
  private ended = false;
  private plainAt = Number.NEGATIVE_INFINITY;

  /** True when drawn lines replace the ones before. */
  private redraws(lines: number): boolean {
    return process.stdout.isTTY && lines < process.stdout.rows;
  }

  /** Lines that stay. */
  print(...lines: string[]): void {
    process.stdout.write(lines.map((line) => `${line}\n`).join(''));
  }

  /** A step of the start, as the launcher shows its own. */
  step(line: string): void {
    this.print(`  ${this.paint('green', '✔')} ${line}`);
  }

  /** The board as it is now. `now` is true for a picture that must not be left out of a plain log. */
  draw(lines: readonly string[], now = false): void {
    if (this.ended) return;
    if (!this.redraws(lines.length)) {
      const at = systemClock.monotonic();
      if (!now && at - this.plainAt < PLAIN_EVERY_MS) return;
      this.plainAt = at;
      this.print(...lines);
      return;
    }
    const up = this.height === 0 ? `${HIDE_CURSOR}${NO_WRAP}` : `${ESCAPE}${this.height}F`;
    this.hidden = true;
    this.height = lines.length;
    process.stdout.write(`${up}${lines.map((line) => `${line}${CLEAR_LINE}\n`).join('')}${CLEAR_BELOW}`);
  }

  /** Takes the board away, where it was drawn over itself. */
  clear(): void {
    if (this.height > 0) process.stdout.write(`${ESCAPE}${this.height}F${CLEAR_BELOW}`);
    this.close();
  }

  /** The board stays as it is; what is drawn from here on is left out. */
  end(): void {
    this.ended = true;
    this.close();
  }

  private close(): void {
    if (this.hidden) process.stdout.write(`${WRAP}${SHOW_CURSOR}`);
    this.hidden = false;
    this.height = 0;
  }
}
