// How a process ends, over real processes and signals. They run what is built: pnpm exec tsc -b packages/service.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { EXIT_FAULT } from './shutdown.js';

const built = (name: string): string => fileURLToPath(new URL(`../dist/${name}.js`, import.meta.url));
const DEADLINE_MS = 600;

interface End {
  code: number | null;
  said: string[];
  /** From the first signal to the end. */
  ms: number;
}

/** A process with these steps (source text of async functions); gets each signal when it has said the word before it. */
async function run(
  steps: Record<string, string>,
  signals: readonly [string, NodeJS.Signals][],
): Promise<End> {
  const list = Object.entries(steps).map(([name, body]) => `{ name: '${name}', run: ${body} }`);
  const program = `
    import { onShutdown } from '${built('shutdown')}';
    import { createLogger } from '${built('logger')}';
    const say = (word) => process.stdout.write(word + '\\n');
    const alive = setInterval(() => undefined, 1000);
    onShutdown(createLogger('test', 'silent'), [${list.join(', ')}], ${DEADLINE_MS});
    say('up');`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const said: string[] = [];
  const left = [...signals];
  let first = 0;
  child.stdout.on('data', (data: Buffer) => {
    said.push(...data.toString().trim().split('\n'));
    const [next] = left;
    if (next === undefined || !said.includes(next[0])) return;
    left.shift();
    first ||= performance.now();
    child.kill(next[1]);
  });
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  return { code, said, ms: performance.now() - first };
}

describe('a process that is told to end', () => {
  beforeAll(() => {
    if (!existsSync(built('shutdown'))) throw new Error('build first: pnpm exec tsc -b packages/service');
  });

  test.each(['SIGTERM', 'SIGINT'] as const)(
    '%s: each step in order, then 0 [R1-24, R2-28]',
    async (signal) => {
      const step = (name: string): string =>
        `async () => { say('${name} begins'); await new Promise((r) => setTimeout(r, 20)); say('${name} ends'); }`;
      const steps = { intake: step('intake'), drain: step('drain'), flush: step('flush') };
      const end = await run(steps, [['up', signal]]);
      const words = ['intake', 'drain', 'flush'].flatMap((name) => [`${name} begins`, `${name} ends`]);
      expect(end).toMatchObject({ code: 0, said: ['up', ...words] });
      expect(end.ms).toBeLessThan(DEADLINE_MS + 5_000);
    },
  );

  test('a step that fails keeps the later ones from nothing, and is told by the code [R1-24]', async () => {
    const steps = { intake: `async () => { throw new Error('no'); }`, flush: `async () => say('flushed')` };
    expect(await run(steps, [['up', 'SIGTERM']])).toMatchObject({ code: 1, said: ['up', 'flushed'] });
  });

  test('a step that hangs is given up at the deadline [R1-24]', async () => {
    const steps = { drain: `() => new Promise(() => say('hangs'))`, flush: `async () => say('flushed')` };
    const end = await run(steps, [['up', 'SIGTERM']]);
    expect(end).toMatchObject({ code: 1, said: ['up', 'hangs'] });
    expect(end.ms).toBeGreaterThanOrEqual(DEADLINE_MS - 50);
    expect(end.ms).toBeLessThan(DEADLINE_MS + 5_000);
  });

  test('a second signal ends it at once [R1-24]', async () => {
    const steps = { drain: `() => new Promise(() => say('hangs'))` };
    const end = await run(steps, [
      ['up', 'SIGTERM'],
      ['hangs', 'SIGTERM'],
    ]);
    expect(end.code).toBe(1);
  });

  test('a fault that nobody caught ends it with a code of its own', async () => {
    const steps = {
      drain: `async () => { setImmediate(() => { throw new Error('fault'); }); await new Promise(() => undefined); }`,
    };
    expect((await run(steps, [['up', 'SIGTERM']])).code).toBe(EXIT_FAULT);
  });
});
