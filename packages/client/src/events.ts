// Live events of a tenant: one after the other for as long as the caller reads. A connection that broke, fell silent or
// ended with its access token is opened again behind the last event that was seen. For pages and for commands.
import { ProblemError, type Transport } from './transport.js';

/** The server says something at least every 15 s. */
const SILENCE_MS_MAX = 45_000;
const AGAIN_MS = 1_000;
const AGAIN_MS_MAX = 30_000;
/** An event is a few hundred bytes; what goes on for longer is none. */
const EVENT_CHARACTERS_MAX = 1_000_000;

export interface LiveEvent {
  /** Where the reader stands after it; `after` goes on from here, for two days. */
  id: string;
  /** `noun.verb`, or `hello` when a connection stands, or `reset` when events were missed. */
  event: string;
  data: {
    type?: string;
    entity?: string;
    entityId?: string | null;
    at?: string;
    data?: Record<string, unknown>;
  };
}

export interface FollowOptions {
  /** Id of the last event that was seen; left out: what happens from now on. */
  after?: string | undefined;
  /** Ends the stream. */
  signal?: AbortSignal | undefined;
  silenceMs?: number;
}

/** Events until `signal` ends them. Throws ProblemError when the first connection fails, or rights are gone. */
export async function* followEvents(transport: Transport, options: FollowOptions): AsyncGenerator<LiveEvent> {
  let { after } = options;
  const stopped = (): boolean => options.signal?.aborted === true;
  for (let failures = 0, connected = false; !stopped();) {
    try {
      for await (const event of connection(transport, after, options)) {
        connected = true;
        failures = 0;
        after = event.id;
        yield event;
        if (stopped()) return;
      }
    } catch (error) {
      if (stopped()) return;
      if (!connected || !passes(error)) throw error;
    }
    await pause(Math.min(AGAIN_MS * 2 ** failures++, AGAIN_MS_MAX), options.signal);
  }
}

/** True for what is over when one waits: no answer, too much to do, a body that broke off. */
function passes(error: unknown): boolean {
  return !(error instanceof ProblemError) || [0, 429, 500, 502, 503, 504].includes(error.status);
}

async function* connection(
  transport: Transport,
  after: string | undefined,
  { signal, silenceMs = SILENCE_MS_MAX }: FollowOptions,
): AsyncGenerator<LiveEvent> {
  const silent = new AbortController();
  const listen = (): ReturnType<typeof setTimeout> => setTimeout(() => silent.abort(), silenceMs);
  let timer = listen();
  const signals = signal === undefined ? [silent.signal] : [silent.signal, signal];
  try {
    const body = await transport.stream({
      ...{ method: 'GET', path: '/api/v1/events', query: { after }, endless: true },
      options: { signal: AbortSignal.any(signals) },
    });
    const reader = body.getReader();
    const decoder = new TextDecoder();
    let text = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = listen();
      text += decoder.decode(value, { stream: true });
      if (text.length > EVENT_CHARACTERS_MAX) throw new Error('an event has no end');
      const parts = text.split('\n\n');
      text = parts.pop() ?? '';
      for (const part of parts) {
        const event = parse(part);
        if (event !== undefined) yield event;
      }
    }
  } finally {
    clearTimeout(timer);
    silent.abort();
  }
}

/** One event; undefined for a comment, by which the server shows that it is there. */
function parse(part: string): LiveEvent | undefined {
  const fields = new Map<string, string>();
  for (const line of part.split('\n')) {
    const colon = line.indexOf(':');
    if (colon > 0) fields.set(line.slice(0, colon), line.slice(colon + 1).replace(/^ /, ''));
  }
  const [id, event] = [fields.get('id'), fields.get('event')];
  if (id === undefined || event === undefined) return undefined;
  return { id, event, data: JSON.parse(fields.get('data') ?? '{}') as LiveEvent['data'] };
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal?.addEventListener('abort', end);
  });
}
