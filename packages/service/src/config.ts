// The only file that reads the environment. A schema names each variable; for every NAME a NAME_FILE variable gives
// the content of a file instead, so that secrets need not stand in the environment. All problems are told at once.
import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { AppError } from '@penstock/domain/errors';

/** Exit code of a process whose configuration is wrong (sysexits EX_CONFIG). */
export const EXIT_CONFIG = 78;

export type Environment = Readonly<Record<string, string | undefined>>;

/** What `loadConfig` reads when nothing is given. */
export function processEnvironment(): Environment {
  return process.env;
}

/**
 * Checks the environment against `schema` (a zod object of variable names). Throws AppError invalid_input whose
 * message holds one sentence a problem. The result is frozen.
 */
export function loadConfig<S extends z.ZodObject>(
  schema: S,
  env: Environment = process.env,
): Readonly<z.output<S>> {
  const problems: string[] = [];
  const values: Record<string, string> = {};
  for (const name of Object.keys(schema.shape)) {
    const file = env[`${name}_FILE`];
    const direct = env[name];
    if (file !== undefined && file !== '') {
      if (direct !== undefined) problems.push(`${name} and ${name}_FILE are both set; keep one.`);
      try {
        values[name] = readFileSync(file, 'utf8').trim();
      } catch (error) {
        problems.push(
          `${name}_FILE cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown'}): ${file}`,
        );
      }
    } else if (direct !== undefined && direct !== '') {
      values[name] = direct;
    }
  }
  const parsed = schema.safeParse(values);
  if (!parsed.success) {
    for (const issue of parsed.error.issues) {
      const name = issue.path.join('.') || 'configuration';
      // A value may be a secret: only the name and the rule are told.
      problems.push(name in values ? `${name} is not valid: ${issue.message}.` : `${name} is not set.`);
    }
  }
  if (problems.length > 0 || !parsed.success) throw new AppError('invalid_input', problems.join('\n'));
  return Object.freeze(parsed.data);
}

/** loadConfig for a `main`: tells all problems on standard error and exits with EXIT_CONFIG. */
export function loadConfigOrExit<S extends z.ZodObject>(schema: S): Readonly<z.output<S>> {
  try {
    return loadConfig(schema);
  } catch (error) {
    process.stderr.write(`Configuration is not usable:\n${(error as Error).message}\n`);
    process.exit(EXIT_CONFIG);
  }
}

/** Pieces of schema that several processes share. */
export const port = z.coerce.number().int().min(0).max(65535);
export const address = z.string().regex(/^[^\s:]+:\d{1,5}$/, 'expected host:port');
export const secretKey = z
  .string()
  .refine((text) => {
    // Whole and exact: words and paths decode to 32 bytes, too.
    const bytes = Buffer.from(text, 'base64');
    return bytes.length === 32 && bytes.toString('base64') === text;
  }, 'expected 32 bytes as base64')
  .transform((text) => Buffer.from(text, 'base64'));

/** Variables of every process. */
export const commonShape = {
  NODE_ENV: z.enum(['production', 'development', 'test']).default('development'),
  LOG_LEVEL: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
  OPS_HOST: z.string().default('127.0.0.1'),
  OPS_PORT: port.default(0),
  OPS_ALLOW: z.string().default('127.0.0.0/8,::1/128'),
  TRUST_DOMAIN: z
    .string()
    .regex(/^[a-z0-9.-]{1,200}$/)
    .default('penstock.internal'),
  TLS_CERT_FILE: z.string(),
  TLS_KEY_FILE: z.string(),
  TLS_ROOT_FILE: z.string(),
};
