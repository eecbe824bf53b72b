// How an answer is written: JSON with bytes and revisions, which are bigint inside, as decimal strings.

/**
 * A copy of which JSON.stringify has nothing to ask: text for each bigint and Date. About half the time of handing it
 * the value itself, which looks for toJSON everywhere (2.7 µs instead of 5.4 for a subscription).
 */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Date) return value.toJSON();
  if (Array.isArray(value)) return value.map(plain);
  if (typeof (value as { toJSON?: unknown }).toJSON === 'function') return value;
  const copy: Record<string, unknown> = {};
  for (const key of Object.keys(value)) {
    const text = plain((value as Record<string, unknown>)[key]);
    if (key === '__proto__') Object.defineProperty(copy, key, { value: text, enumerable: true });
    else copy[key] = text;
  }
  return copy;
}

/** The text of an answer; '' for none. A string is a text already. */
export function wireText(value: unknown): string {
  if (value === undefined || value === null) return '';
  return typeof value === 'string' ? value : JSON.stringify(plain(value));
}
