// What a schema's refusal is called for people, in place of the validator's own words. Pure, one for the whole process:
// the pipe hands it to zod, and a rule with words of its own keeps them. Invariant: nothing that the caller sent is in it.
import type { z } from 'zod';

type Issue = z.core.$ZodRawIssue;

/** Characters of a list of choices; the rest of them is counted. */
const LIST_CHARACTERS_MAX = 200;

const types: Record<string, string> = {
  string: 'must be text',
  number: 'must be a number',
  int: 'must be a whole number',
  boolean: 'must be true or false',
  array: 'must be a list',
  object: 'must be an object',
  record: 'must be an object',
};

const formats: Record<string, string> = {
  datetime: 'must be a time such as 2026-01-31T12:00:00Z',
  date: 'must be a day such as 2026-01-31',
  url: 'must be an address such as https://example.org/',
  email: 'must be an e-mail address',
  guid: 'must be a UUID',
  uuid: 'must be a UUID',
};

/** The words for an issue that has none of its own. */
export function issueWords(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      return ofType(issue.expected, issue.input);
    case 'too_big':
      return ofBound(issue.origin, 'most', issue.maximum, issue.exact);
    case 'too_small':
      return ofBound(issue.origin, 'least', issue.minimum, issue.exact);
    case 'invalid_value':
      return choice(issue.values.map(String));
    case 'invalid_format':
      return isHttpsOnly(issue)
        ? 'must be an https address'
        : (formats[issue.format] ?? 'is not of the form that it must have');
    case 'not_multiple_of':
      return `must be a multiple of ${issue.divisor}`;
    case 'invalid_union':
      return ofUnion(issue.errors);
    default:
      return 'is not valid';
  }
}

function ofType(expected: string, input: unknown): string {
  if (input === undefined && expected !== 'object') return 'is missing';
  return types[expected] ?? 'is not valid';
}

function ofBound(origin: string, end: 'most' | 'least', bound: number | bigint, exact = false): string {
  const rule = exact ? 'exactly' : `at ${end}`;
  const counted = origin === 'string' ? 'character' : 'entry';
  if (origin !== 'string' && origin !== 'array') return `must be ${rule} ${bound}`;
  if (end === 'least' && Number(bound) === 1) return 'must not be empty';
  const many = counted === 'entry' ? 'entries' : 'characters';
  return `must ${counted === 'entry' ? 'have' : 'be'} ${rule} ${bound} ${Number(bound) === 1 ? counted : many}`;
}

/** A list that is too long is cut between two of its words. */
function choice(values: readonly string[]): string {
  if (values.length === 1) return values[0] === '' ? 'must be empty' : `must be ${values[0]}`;
  let shown = 0;
  for (let length = 0; shown < values.length; shown += 1) {
    length += (values[shown]?.length ?? 0) + 2;
    if (length > LIST_CHARACTERS_MAX && shown > 0) break;
  }
  const rest = values.length - shown;
  return `must be one of ${values.slice(0, shown).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}

function isHttpsOnly(issue: Issue): boolean {
  const rule = issue.inst?._zod.def as { protocol?: RegExp } | undefined;
  return issue.code === 'invalid_format' && rule?.protocol?.test('http') === false;
}

/** Of several forms, the last that asks for more than one fixed value: the others say "or nothing". */
function ofUnion(errors: readonly (readonly z.core.$ZodIssue[])[]): string {
  const told = errors.map((issues) => issues[0]).filter((first) => first !== undefined);
  const best = told.findLast((first) => first.code !== 'invalid_value') ?? told.at(-1);
  return best?.message ?? 'is not valid';
}
