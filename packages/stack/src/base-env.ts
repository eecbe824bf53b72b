// What the stack's processes get of our own environment, and where programs are found. Called by stack.ts.
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { processEnvironment } from '@penstock/service/config';

/** What a process needs of our environment, and nothing else of it. */
export function inheritedEnv(): Record<string, string> {
  const env: Record<string, string> = {};
  const source = processEnvironment();
  for (const name of [
    'PATH',
    'HOME',
    'LANG',
    'TMPDIR',
    'SSL_CERT_FILE',
    'SSL_CERT_DIR',
    'NODE_EXTRA_CA_CERTS',
  ]) {
    const value = source[name];
    if (value !== undefined) env[name] = value;
  }
  // The agent needs ip and nft, which a root shell opened by su does not always find.
  const path = (env['PATH'] ?? '/usr/local/bin:/usr/bin:/bin').split(delimiter);
  env['PATH'] = [...new Set([...path, '/usr/sbin', '/sbin'])].join(delimiter);
  return env;
}

/** Path of a program on PATH, or null. */
export function findProgram(name: string, path: string): string | null {
  const places = path.split(delimiter).map((directory) => join(directory, name));
  return places.find((file) => existsSync(file)) ?? null;
}
