// Typed arrays that grow by doubling: the collector's memory of meters, subscriptions and periods is columns, because
// a hundred thousand small objects cost ten times the memory and the cache misses.

type Typed = Uint8Array | Uint32Array | Int32Array | Float64Array;

/** A copy of `array` with room for `capacity` elements; new ones are `fill`. */
export function grown<T extends Typed>(array: T, capacity: number, fill = 0): T {
  const next = new (array.constructor as new (length: number) => T)(capacity);
  next.set(array);
  if (fill !== 0) next.fill(fill, array.length);
  return next;
}
