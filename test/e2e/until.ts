/** Waits for a condition; fails naming it. The pause only keeps the machine free: the condition decides. */
export async function until(
  condition: () => Promise<boolean> | boolean,
  name: string | (() => string),
  timeoutMs = 15_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    if (await condition()) return;
    if (performance.now() > deadline) {
      throw new Error(`not within ${timeoutMs} ms: ${typeof name === 'string' ? name : name()}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
