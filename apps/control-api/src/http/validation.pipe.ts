// Checks every argument of a route against its zod schema. What does not fit is invalid_input naming the field, in
// the caller's own words; an unknown field is as wrong as a missing one, because every object is strict.
import { Injectable, StandardSchemaValidationPipe, type ArgumentMetadata } from '@nestjs/common';
import { z } from 'zod';
import { AppError } from '@penstock/domain/errors';
import { issueWords } from './issue-words.js';

z.config({ customError: issueWords });

const FIELD_MAX = 100;
const MESSAGE_MAX = 300;

interface Issue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** Refusals of this pipe: the handler has not been called. */
const refused = new WeakSet<object>();

/** True for an error that came before any work. */
export function isInputRefusal(error: unknown): boolean {
  return typeof error === 'object' && error !== null && refused.has(error);
}

@Injectable()
export class ValidationPipe extends StandardSchemaValidationPipe {
  constructor() {
    super({ exceptionFactory: (issues) => refusal(issues[0] as Issue) });
  }

  override transform<T>(value: T, metadata: ArgumentMetadata): Promise<T> {
    return metadata.schema === undefined ? Promise.resolve(value) : this.#checked(value, metadata);
  }

  async #checked<T>(value: T, metadata: ArgumentMetadata): Promise<T> {
    try {
      return await super.transform(value, metadata);
    } catch (error) {
      if (!(error instanceof AppError)) throw error;
      // A path parameter is one value: its field is the parameter's own name.
      const told =
        error.field !== undefined || metadata.data === undefined
          ? error
          : new AppError(error.code, `${metadata.data}: ${error.message}`, { field: metadata.data });
      refused.add(told);
      throw told;
    }
  }
}

function refusal(issue: Issue): AppError {
  const path = (issue.path ?? []).map((part) => String(typeof part === 'object' ? part.key : part));
  const unknown = (issue as { keys?: unknown }).keys;
  if (Array.isArray(unknown) && unknown.length > 0) path.push(String(unknown[0]));
  if (path.length === 0) return new AppError('invalid_input', issue.message.slice(0, MESSAGE_MAX));
  const field = path.join('.').slice(0, FIELD_MAX);
  const what = Array.isArray(unknown) ? 'unknown field' : issue.message;
  return new AppError('invalid_input', `${field}: ${what}`.slice(0, MESSAGE_MAX), { field });
}
