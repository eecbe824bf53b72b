// One at a time, in order of arrival. The queue is bounded by its callers: the sampler (one call in flight), the
// enforcement (one revision in flight) and the supervisor.

export class Mutex {
  #tail: Promise<unknown> = Promise.resolve();

  /** Runs `work` after everything that came before has settled; a failure stays with its own caller. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#tail.then(work);
    this.#tail = result.catch(() => undefined);
    return result;
  }
}
