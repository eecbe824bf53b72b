// The stack's certificates: a development CA and one certificate a service, made by the scheduler's own program,
// which makes only what is missing or past half its life. Called by stack.ts before any service runs and daily
// afterwards (the processes read changed files by themselves); specs.ts names the files.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { AppError } from '@penstock/domain/errors';
import type { StackPaths } from './paths.js';

const run = promisify(execFile);
const timeoutMs = 30_000;

export const serviceNames = ['control-api', 'scheduler', 'collector', 'caddy', 'cli'] as const;
export type ServiceName = (typeof serviceNames)[number];

export interface TlsFiles {
  cert: string;
  key: string;
  /** The root first, issuing certificates behind it. */
  root: string;
}

/** Files of a service's certificate below the trust directory. */
export function serviceTls(trustDir: string, name: ServiceName): TlsFiles {
  const file = (kind: string): string => join(trustDir, name, `${kind}.pem`);
  return { cert: file('cert'), key: file('key'), root: file('root') };
}

export interface TrustOptions {
  domain: string;
  /** Names of the services' certificates beside localhost. */
  dnsNames: readonly string[];
  env: Readonly<Record<string, string>>;
}

/** Makes or renews the CA and the services' certificates; what was made, in the program's words. */
export async function makeTrust(paths: StackPaths, options: TrustOptions): Promise<string> {
  const program = join(paths.repo, 'apps', 'scheduler', 'dist', 'identity', 'make-trust.js');
  const args = ['--dir', paths.trust, '--trust-domain', options.domain];
  for (const name of serviceNames) args.push('--service', name);
  for (const name of options.dnsNames) args.push('--dns', name);
  try {
    const { stdout } = await run(process.execPath, [program, ...args], {
      env: { ...options.env },
      timeout: timeoutMs,
      cwd: paths.dir,
    });
    return stdout.trim();
  } catch (error) {
    const said = String((error as { stderr?: unknown }).stderr ?? '').trim();
    throw new AppError('unavailable', `The certificates could not be made. ${said}`, { cause: error });
  }
}
