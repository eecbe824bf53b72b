// Lets at most `max` tasks run at once; the others wait their turn. Each stream waits with one task at most, so the
// line is as long as there are nodes. For look-ups: a reconnect storm must wait here and not in the connection pool,
// where waiting has a timeout.
export class Gate {
  private running = 0;
  private readonly line: (() => void)[] = [];

  constructor(private readonly max: number) {}

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.running >= this.max) await new Promise<void>((resolve) => this.line.push(resolve));
    else this.running++;
    try {
      return await task();
    } finally {
      const next = this.line.shift();
      if (next === undefined) this.running--;
      else next();
    }
  }
}
