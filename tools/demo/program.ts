// Programs of the demo's world (customers' clients, the origin): started from compiled files, inside a namespace where
// there is one, and ended in order. Called by customer.ts and origin.ts.
import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Namespace } from '@penstock/testkit/netns/netns';

/** Takes what undoes a start; main.ts calls it in reverse order. */
export type AtEnd = (undo: () => Promise<unknown>) => void;

const STOP_GRACE_MS = 2_000;
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/** `program` is a file of this folder or a package's subpath. Nothing of our environment is handed on. */
export function startProgram(
  program: string,
  namespace: Namespace | null,
  atEnd: AtEnd,
  args: readonly string[] = [],
): ChildProcess {
  const argv = [process.execPath, fileURLToPath(import.meta.resolve(program)), ...args];
  const [file = '', ...rest] = namespace?.argv(argv) ?? argv;
  // A session of its own: Ctrl-C reaches only us, and we end things in order.
  const child = spawn(file, rest, { stdio: ['pipe', 'pipe', 'pipe'], detached: true, env: { PATH } });
  child.stdin?.on('error', () => undefined);
  const exited = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const killNow = (): void => void child.kill('SIGKILL');
  process.once('exit', killNow);
  atEnd(async () => {
    // It may have been told to stand still.
    child.kill('SIGCONT');
    child.kill('SIGTERM');
    child.stdin?.end();
    const hard = setTimeout(killNow, STOP_GRACE_MS);
    await exited;
    clearTimeout(hard);
    process.off('exit', killNow);
  });
  return child;
}
