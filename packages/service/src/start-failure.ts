// What a process says that cannot start: one sentence for the operator on standard error, and a code that is not 0.
// Called by every main.

/** Codes of the system that mean "not on this address", whatever asked for it. */
const listenCodes: ReadonlySet<string> = new Set(['EADDRINUSE', 'EACCES', 'EADDRNOTAVAIL']);

/** For `.catch`: tells why `process` cannot start and ends it with 1. */
export function cannotStart(name: string): (error: unknown) => never {
  return (error) => {
    const { code, message, syscall } = error as { code?: string; message: string; syscall?: string };
    const isListen = code !== undefined && listenCodes.has(code) && syscall !== 'mkdir' && syscall !== 'open';
    process.stderr.write(`${name} ${isListen ? `cannot listen (${code})` : 'cannot start'}: ${message}\n`);
    process.exit(1);
  };
}
