// What a person or a script reads: a table, or with --json the API's own answer.

export type Row = Record<string, unknown>;

export interface Output {
  json: boolean;
  write(text: string): void;
}

/** Rows as a table with these columns (key → heading), or as JSON. */
export function printRows(
  out: Output,
  rows: readonly Row[],
  columns: Readonly<Record<string, string>>,
): void {
  if (out.json) return out.write(JSON.stringify(rows, null, 2) + '\n');
  if (rows.length === 0) return out.write('none\n');
  const keys = Object.keys(columns);
  const cells = rows.map((row) => keys.map((key) => show(row[key])));
  const widths = keys.map((key, i) =>
    Math.max((columns[key] ?? '').length, ...cells.map((line) => line[i]?.length ?? 0)),
  );
  const line = (parts: string[]): string =>
    parts
      .map((part, i) => part.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd() + '\n';
  out.write(line(keys.map((key) => columns[key] ?? key)));
  for (const parts of cells) out.write(line(parts));
}

/** One thing as lines of key and value, or as JSON. */
export function printOne(out: Output, value: Row): void {
  if (out.json) return out.write(JSON.stringify(value, null, 2) + '\n');
  const width = Math.max(...Object.keys(value).map((key) => key.length));
  for (const [key, item] of Object.entries(value)) {
    if (Array.isArray(item) && item.some((part) => typeof part === 'object')) {
      out.write(`${key}\n`);
      for (const part of item) out.write(`  ${inLine(part)}\n`);
    } else if (typeof item === 'object' && item !== null && !Array.isArray(item)) {
      out.write(`${key}\n`);
      const inside = Math.max(width - 2, ...Object.keys(item).map((name) => name.length));
      for (const [inner, part] of Object.entries(item))
        out.write(`  ${inner.padEnd(inside)}  ${show(part)}\n`);
    } else out.write(`${key.padEnd(width)}  ${show(item)}\n`);
  }
}

/** That something without an answer of its own was done: "deleted", or {"done":"deleted"}. */
export function printDone(out: Output, text: string): void {
  out.write(out.json ? `${JSON.stringify({ done: text })}\n` : `${text}\n`);
}

/** One thing whose secret the API shows this once; people are told so. */
export function printSecret(out: Output, value: Row): void {
  printOne(out, value);
  if (!out.json) out.write('Keep it now: it is shown this once.\n');
}

/**
 * Fields named …Bytes for people, inside too: "5000000000  (5.00 GB)"; a limit that is null is none. As it is for
 * --json.
 */
export function withHumanBytes(out: Output, value: Row, limits = false): Row {
  if (out.json) return value;
  const human = Object.entries(value).map(([key, item]): [string, unknown] => {
    if (item === null && (limits || /^limit.*Bytes$/.test(key))) return [key, 'unlimited'];
    if (typeof item === 'string' && key.endsWith('Bytes')) return [key, exactBytes(BigInt(item))];
    const inner = typeof item === 'object' && item !== null && !Array.isArray(item);
    return [key, inner ? withHumanBytes(out, item as Row, key === 'limits') : item];
  });
  return Object.fromEntries(human);
}

function exactBytes(bytes: bigint): string {
  return bytes < 1000n ? humanBytes(bytes) : `${bytes}  (${humanBytes(bytes)})`;
}

/** "50.0 GB", or "unlimited" for null. */
export function humanLimit(bytes: string | null): string {
  return bytes === null ? 'unlimited' : humanBytes(BigInt(bytes));
}

/** "name=phone  created=…" */
function inLine(value: unknown): string {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return show(value);
  return Object.entries(value)
    .map(([key, part]) => `${key}=${show(part)}`)
    .join('  ');
}

function show(value: unknown): string {
  if (value === null || value === undefined || value === '') return '–';
  if (Array.isArray(value))
    return value.every((item) => typeof item !== 'object') ? value.join(', ') : JSON.stringify(value);
  if (typeof value === 'object') return JSON.stringify(value);
  return String(value);
}

const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** "1.50 GB" from bytes; powers of 1000, as traffic is sold. */
export function humanBytes(bytes: bigint): string {
  let value = Number(bytes);
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return unit === 0
    ? `${bytes} B`
    : `${value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2)} ${units[unit]}`;
}

/** Bytes from "50MB", "1.5 GB" or "1000000"; null for "unlimited". Throws RangeError. */
export function parseBytes(text: string): bigint | null {
  if (text === 'unlimited') return null;
  // However a unit is written, it is a power of a thousand; 1 GiB is not 1 GB, so it is not taken for one.
  const match = /^(\d{1,18})(?:\.(\d{1,3}))?\s*(?:([kmgtp]?)b)?$/i.exec(text.trim());
  if (match === null)
    throw new RangeError(
      `${text} is not a number of bytes (B, kB, MB, GB, TB or PB, each a thousand of the one before: 50MB, 1.5GB; or unlimited)`,
    );
  const factor = 1000n ** BigInt(['', 'k', 'm', 'g', 't', 'p'].indexOf((match[3] ?? '').toLowerCase()));
  const fraction = (match[2] ?? '').padEnd(3, '0');
  return BigInt(match[1] ?? '0') * factor + (BigInt(fraction) * factor) / 1000n;
}
