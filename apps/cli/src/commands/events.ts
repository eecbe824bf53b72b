// What happens in the tenant while it happens, a line each.
import type { Command } from 'commander';
import { followEvents, type LiveEvent } from '@penstock/client/events';
import type { Context } from '../context.js';

export function eventCommands(program: Command, context: Context): void {
  program
    .command('events')
    .description('what happens in this tenant, a line each, until Ctrl-C; with --json a JSON object each')
    .option('--after <id>', 'go on behind this event; events are kept for two days')
    .option('--type <patterns...>', 'only these: noun.verb or noun.*')
    .action(async (options: { after?: string; type?: string[] }) => {
      const stop = new AbortController();
      const end = (): void => stop.abort();
      process.once('SIGINT', end);
      process.once('SIGTERM', end);
      // Whoever reads our output has gone: `penstock events | head`.
      process.stdout.once('close', end);
      const out = context.output();
      let last: string | undefined;
      try {
        const { transport } = context.api().client;
        for await (const event of followEvents(transport, { after: options.after, signal: stop.signal })) {
          last = event.id;
          if (event.event !== 'hello' && wanted(event, options.type)) {
            out.write(
              out.json
                ? `${JSON.stringify({ ...event.data, id: event.id, type: event.event })}\n`
                : lineOf(event),
            );
          }
        }
      } finally {
        process.off('SIGINT', end);
        process.off('SIGTERM', end);
        if (last !== undefined) process.stderr.write(`go on with: penstock events --after ${last}\n`);
      }
    });
}

/** True for what was asked for, and for `reset`, which concerns everybody. */
function wanted({ event }: LiveEvent, patterns: readonly string[] | undefined): boolean {
  if (patterns === undefined || event === 'reset') return true;
  const [noun = ''] = event.split('.');
  return patterns.some((pattern) => pattern === event || pattern === `${noun}.*` || pattern === '*');
}

function lineOf({ event, data }: LiveEvent): string {
  if (event === 'reset') return 'events were missed: what was shown before may not hold any more\n';
  const details = Object.keys(data.data ?? {}).length === 0 ? '' : `  ${JSON.stringify(data.data)}`;
  return `${data.at ?? ''}  ${event}  ${data.entityId ?? '–'}${details}\n`;
}
