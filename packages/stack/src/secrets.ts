// Secrets of a stack, each made once and kept in a file of its own (0600). Processes get the files' names,
// never the values. Called by startStack before anything runs.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { serviceRoles, type ServiceRole } from '@penstock/db/migrate';
import { makeDirectory, readIfThere, writePrivate } from './files.js';

export interface StackSecrets {
  dataKeyFile: string;
  jwtKeyFile: string;
  setupTokenFile: string;
  /** Only for the link that is shown to the operator. */
  setupToken: string;
  databasePasswords: Record<ServiceRole, string>;
  superuserPassword: string;
  /** Nothing was there: data from before, if any, belongs to secrets that are lost. */
  fresh: boolean;
}

/** Reads the secrets below `dir`, making those that are missing. */
export async function loadSecrets(dir: string): Promise<StackSecrets> {
  await makeDirectory(join(dir, 'database'));
  const superuserFile = join(dir, 'database', 'superuser');
  const fresh = (await readIfThere(superuserFile)) === null;
  const dataKeyFile = join(dir, 'data-key');
  const jwtKeyFile = join(dir, 'jwt-key.pem');
  const setupTokenFile = join(dir, 'setup-token');
  await once(dataKeyFile, () => randomBytes(32).toString('base64'));
  await once(jwtKeyFile, signingKey);
  const setupToken = await once(setupTokenFile, token);
  const passwords: Partial<Record<ServiceRole, string>> = {};
  for (const role of serviceRoles) passwords[role] = await once(join(dir, 'database', role), token);
  return {
    dataKeyFile,
    jwtKeyFile,
    setupTokenFile,
    setupToken,
    databasePasswords: passwords as Record<ServiceRole, string>,
    superuserPassword: await once(superuserFile, token),
    fresh,
  };
}

async function once(file: string, make: () => string): Promise<string> {
  const there = await readIfThere(file);
  if (there !== null && there.trim() !== '') return there.trim();
  const made = make();
  await writePrivate(file, `${made}\n`);
  return made.trim();
}

const token = (): string => randomBytes(32).toString('base64url');

function signingKey(): string {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}
