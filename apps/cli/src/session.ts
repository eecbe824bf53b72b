// Where the command keeps who is signed in: one 0600 file a person, one entry an API address. Tokens never appear in
// arguments, output or logs.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { homedir } from 'node:os';
import type { Environment } from '@penstock/service/config';

export interface Session {
  accessToken: string;
  refreshToken: string;
  /** Tenant that the access token acts in. */
  tenantId: string;
  /** The platform's own, once it is known that this person has a place in it. */
  platformTenantId?: string | undefined;
  email: string;
}

type Sessions = Record<string, Session>;

export function sessionFile(env: Environment): string {
  const base = env['XDG_CONFIG_HOME'] || join(env['HOME'] || homedir(), '.config');
  return join(base, 'penstock', 'sessions.json');
}

function readAll(file: string): Sessions {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as Sessions;
  } catch {
    return {};
  }
}

export function readSession(file: string, api: string): Session | undefined {
  return readAll(file)[api];
}

/** Replaces the entry of this API; undefined removes it. Written aside and renamed, so it is never half there. */
export function writeSession(file: string, api: string, session: Session | undefined): void {
  const all = readAll(file);
  if (session === undefined) delete all[api];
  else all[api] = session;
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  // Commands that run at the same time write files of their own.
  const aside = `${file}.${process.pid}.new`;
  writeFileSync(aside, JSON.stringify(all, null, 2), { mode: 0o600 });
  renameSync(aside, file);
}
