// Where the command keeps who is signed in: one 0600 file a person, one entry an API address. Tokens never appear in
// arguments, output or logs. Commands that run at the same time change it one after the other: under a lock file beside
// it, from reading to renaming, so none loses what another wrote.
import { randomUUID } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { homedir } from 'node:os';
import { setTimeout as wait } from 'node:timers/promises';
import { systemClock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import type { Environment } from '@penstock/service/config';

/** A change takes milliseconds: a lock this old was left behind by a command that was killed. */
const LOCK_STALE_MS = 5_000;
/** Longer than a stale lock lasts, so one that was left behind stops nobody. */
const LOCK_WAIT_MAX_MS = 15_000;
const LOCK_POLL_MS = 5;

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

/**
 * Changes the entry of this API to what `change` makes of the one that stands there now: undefined removes it, the same
 * object leaves the file as it is. Written aside and renamed, so it is never half there. Throws unavailable when the
 * file stays locked.
 */
export async function changeSession(
  file: string,
  api: string,
  change: (now: Session | undefined) => Session | undefined,
): Promise<void> {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  await locked(`${file}.lock`, () => {
    const all = readAll(file);
    const before = all[api];
    const after = change(before);
    if (after === before) return;
    if (after === undefined) delete all[api];
    else all[api] = after;
    const aside = `${file}.${process.pid}.new`;
    writeFileSync(aside, JSON.stringify(all, null, 2), { mode: 0o600 });
    renameSync(aside, file);
  });
}

/** Does `work` while nobody else does theirs under the same lock. */
async function locked(lock: string, work: () => void): Promise<void> {
  const owner = randomUUID();
  const until = systemClock.monotonic() + LOCK_WAIT_MAX_MS;
  while (!made(lock, owner)) {
    if (ageMs(lock) > LOCK_STALE_MS) takeAway(lock);
    else if (systemClock.monotonic() > until)
      throw new AppError('unavailable', `another command holds ${lock}; remove it when none is running`);
    else await wait(LOCK_POLL_MS * (1 + Math.random()));
  }
  try {
    work();
  } finally {
    // Who was suspended for long does not hold it any more.
    if (readOr(lock, '') === owner) rmSync(lock, { force: true });
  }
}

function made(lock: string, owner: string): boolean {
  try {
    writeFileSync(lock, owner, { flag: 'wx', mode: 0o600 });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** Of a file that may be gone by now: then it has none. */
function ageMs(path: string): number {
  const stat = statSync(path, { throwIfNoEntry: false });
  return stat === undefined ? 0 : systemClock.now() - stat.mtimeMs;
}

/** Several may find the same stale lock: who gets hold of the fresh one of a faster command puts it back. */
function takeAway(lock: string): void {
  const aside = `${lock}.${process.pid}.stale`;
  try {
    renameSync(lock, aside);
    if (ageMs(aside) <= LOCK_STALE_MS) linkSync(aside, lock);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT' && code !== 'EEXIST') throw error;
  }
  rmSync(aside, { force: true });
}

function readOr(path: string, otherwise: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return otherwise;
  }
}
