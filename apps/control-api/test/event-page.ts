// The reading side of /api/v1/events, as a live page has it: what it was told, in order, and whether it still is.
import type { Person, World } from './world.js';

export interface Told {
  id: string;
  event: string;
  data: { type?: string; entity?: string; entityId?: string; data?: Record<string, unknown> };
}

/** A page that reads its stream until it is told to stop. */
export class Page {
  readonly told: Told[] = [];
  readonly #abort = new AbortController();
  #wake: () => void = () => undefined;
  ended = false;
  status = 0;
  /** All that came, as it came. */
  text = '';

  /** Opens a page of `person`, or of whomever these headers say. */
  static async open(
    { url }: World,
    as: Pick<Person, 'token'> | Record<string, string>,
    after?: string,
  ): Promise<Page> {
    const page = new Page();
    const response = await fetch(`${url}/api/v1/events`, {
      headers: {
        ...('token' in as ? { authorization: `Bearer ${as.token}` } : as),
        ...(after === undefined ? {} : { 'last-event-id': after }),
      },
      signal: page.#abort.signal,
    });
    page.status = response.status;
    void page.#read(response);
    if (response.status === 200) await page.until(() => page.told.length > 0);
    return page;
  }

  async #read(response: Response): Promise<void> {
    let text = '';
    try {
      for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
        this.text += chunk;
        text += chunk;
        const parts = text.split('\n\n');
        text = parts.pop() ?? '';
        for (const part of parts) this.#take(part);
        this.#wake();
      }
    } catch {
      // Closed by this side.
    }
    this.ended = true;
    this.#wake();
  }

  #take(part: string): void {
    const fields = Object.fromEntries(
      part.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
    );
    if (fields['event'] === undefined) return;
    this.told.push({
      id: fields['id'] ?? '',
      event: fields['event'],
      data: JSON.parse(fields['data'] ?? '{}') as Told['data'],
    });
  }

  async until(condition: () => boolean, timeoutMs = 5_000): Promise<void> {
    let late = false;
    const deadline = setTimeout(() => {
      late = true;
      this.#wake();
    }, timeoutMs);
    while (!condition()) {
      if (late) throw new Error(`not told in time: ${JSON.stringify(this.told)}`);
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    clearTimeout(deadline);
  }

  names(): (string | undefined)[] {
    return this.told.filter(({ event }) => event === 'node_group.create').map(({ data }) => data.entityId);
  }

  close(): void {
    this.#abort.abort();
  }
}
