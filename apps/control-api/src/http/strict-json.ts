// JSON as we take it: UTF-8, each key once, no key that means something to JavaScript, bounded depth, numbers that are
// exact, text that PostgreSQL can hold. JSON.parse alone takes the last of two equal keys, rounds numbers and says
// nothing. The scan is over the text, so that what was checked is what is parsed.
import { AppError } from '@penstock/domain/errors';

export const DEPTH_MAX = 16;
const FIELD_MAX = 100;
const RESERVED: ReadonlySet<string> = new Set(['__proto__', 'constructor', 'prototype']);
// NUL and its kind; a tab or a new line may stand in a description.
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Throws invalid_input, naming the field where one is at fault. */
export function parseStrictJson(bytes: Uint8Array): unknown {
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw new AppError('invalid_input', 'the body is not valid UTF-8');
  }
  scan(text);
  try {
    return JSON.parse(text);
  } catch {
    throw new AppError('invalid_input', 'the body is not valid JSON');
  }
}

/** An object or a list that is open at the point of the scan. */
interface Open {
  /** Keys so far; null for a list. */
  keys: Set<string> | null;
  /** Key or index of the value that follows. */
  at: string | number;
  /** The next string is a key. */
  key: boolean;
}

/** Broken grammar is left to JSON.parse: here it only must do no harm. */
function scan(text: string): void {
  const open: Open[] = [];
  for (let i = 0; i < text.length; i++) {
    const top = open.at(-1);
    switch (text.charCodeAt(i)) {
      case 0x7b: // {
      case 0x5b: // [
        if (open.length >= DEPTH_MAX) throw fault(open, 'is nested too deeply');
        open.push(
          text[i] === '{' ? { keys: new Set(), at: '', key: true } : { keys: null, at: 0, key: false },
        );
        break;
      case 0x7d: // }
      case 0x5d: // ]
        open.pop();
        break;
      case 0x2c: // ,
        if (top === undefined) break;
        if (top.keys !== null) top.key = true;
        else if (typeof top.at === 'number') top.at++;
        break;
      case 0x22: {
        const end = endOfString(text, i);
        takeString(text.slice(i, end + 1), open, top);
        i = end;
        break;
      }
      case 0x2d: // -
      case 0x30:
      case 0x31:
      case 0x32:
      case 0x33:
      case 0x34: // prettier-ignore
      case 0x35:
      case 0x36:
      case 0x37:
      case 0x38:
      case 0x39: {
        const end = endOfNumber(text, i);
        if (!isExact(text.slice(i, end))) throw fault(open, 'is a number that JSON cannot carry exactly');
        i = end - 1;
        break;
      }
      default:
    }
  }
}

function takeString(raw: string, open: readonly Open[], top: Open | undefined): void {
  let value = raw.slice(1, -1);
  if (raw.includes('\\')) {
    try {
      value = JSON.parse(raw) as string;
    } catch {
      return;
    }
  }
  if (top?.key === true && top.keys !== null) {
    top.at = value;
    top.key = false;
    if (RESERVED.has(value)) throw fault(open, 'must not be used as a name');
    if (top.keys.has(value)) throw fault(open, 'is there twice');
    top.keys.add(value);
  }
  if (CONTROL.test(value) || !value.isWellFormed()) throw fault(open, 'must not hold control characters');
}

/** Index of the closing quote; the end of the text when there is none. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let slashes = 0;
    while (text.charCodeAt(end - 1 - slashes) === 0x5c) slashes++;
    if (slashes % 2 === 0) return end;
  }
  return text.length;
}

/** True when a double holds what is written: up to 15 digits, or a whole number up to 2^53. */
function isExact(literal: string): boolean {
  const value = Number(literal);
  if (Number.isNaN(value)) return true;
  if (Math.abs(value) > Number.MAX_SAFE_INTEGER) return false;
  const digits = literal
    .replace(/[eE].*$/, '')
    .replace(/[-.]/g, '')
    .replace(/^0+|0+$/g, '');
  if (digits === '') return true;
  return value !== 0 && (digits.length <= 15 || /^-?\d+$/.test(literal));
}

function endOfNumber(text: string, start: number): number {
  let end = start + 1;
  while (end < text.length && '0123456789.eE+-'.includes(text.charAt(end))) end++;
  return end;
}

function fault(open: readonly Open[], what: string): AppError {
  const field = open.map(({ at }) => String(at)).join('.').slice(0, FIELD_MAX); // prettier-ignore
  const printable = field.toWellFormed().replaceAll(/\p{Cc}/gu, '?');
  return new AppError('invalid_input', `${printable || 'the body'} ${what}`, {
    ...(printable === '' ? {} : { field: printable }),
  });
}
