// How an answer is written: JSON with bytes and revisions, which are bigint inside, as decimal strings.

function withBigint(_key: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}

/** The text of an answer; '' for none. A string is a text already. */
export function wireText(value: unknown): string {
  if (value === undefined || value === null) return '';
  return typeof value === 'string' ? value : JSON.stringify(value, withBigint);
}
