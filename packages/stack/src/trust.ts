// The stack's certificates: a development CA and one certificate a service, made by the scheduler's own program and
// renewed by it at each start. Called by startStack before any service runs; specs.ts names the files.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { AppError } from '@penstock/domain/errors';
import { makeDirectory } from './files.js';
import type { StackPaths } from './paths.js';

const run = promisify(execFile);
const timeoutMs = 30_000;

export type ServiceName = 'control-api' | 'scheduler' | 'collector' | 'caddy' | 'cli';

export interface TlsFiles {
  cert: string;
  key: string;
  root: string;
}

/** Files of a service's certificate below the trust directory. */
export function serviceTls(trustDir: string, name: ServiceName): TlsFiles {
  return {
    cert: join(trustDir, `${name}.crt`),
    key: join(trustDir, `${name}.key`),
    root: join(trustDir, 'root.crt'),
  };
}

/** Makes or renews the CA and the services' certificates. */
export async function makeTrust(
  paths: StackPaths,
  trustDomain: string,
  dataKeyFile: string,
  baseEnv: Readonly<Record<string, string>>,
): Promise<void> {
  await makeDirectory(paths.trust);
  const program = join(paths.repo, 'apps', 'scheduler', 'dist', 'identity', 'make-trust.js');
  const env = {
    ...baseEnv,
    CA_DIR: join(paths.trust, 'ca'),
    TRUST_DIR: paths.trust,
    TRUST_DOMAIN: trustDomain,
    DATA_KEY_FILE: dataKeyFile,
  };
  try {
    await run(process.execPath, [program], { env, timeout: timeoutMs, cwd: paths.dir });
  } catch (error) {
    const said = String((error as { stderr?: unknown }).stderr ?? '').trim();
    throw new AppError('unavailable', `The certificates could not be made. ${said}`, { cause: error });
  }
}
