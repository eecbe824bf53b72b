// V01: no installation runs on a key that others know. A secret that is unset, empty, a word, too short, or to be found
// in this repository stops the start with its name; two fresh installations share no secret.
import { execFile, spawnSync } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '@penstock/service/config';
import { loadSecrets } from '@penstock/stack/secrets';
import { configSchema } from '../../apps/control-api/src/config.js';

const root = resolve(import.meta.dirname, '../..');
const entry = join(root, 'apps/control-api/dist/main.js');
const EXIT_CONFIG = 78;
const run = promisify(execFile);
let directory: string;

beforeAll(() => {
  if (!existsSync(entry)) throw new Error('build first: pnpm exec tsc -b apps/control-api');
  directory = mkdtempSync(join(tmpdir(), 'v01-'));
});
afterAll(() => rmSync(directory, { recursive: true }));

const pem = (curve: string): string =>
  generateKeyPairSync('ec', { namedCurve: curve })
    .privateKey.export({ format: 'pem', type: 'pkcs8' })
    .toString();
const good = (): Record<string, string> => ({
  DATA_KEY: randomBytes(32).toString('base64'),
  JWT_KEY: pem('prime256v1'),
});

/** What the process says about `name`; nothing when it is taken. */
function refusal(name: string, value: string | undefined): string | undefined {
  try {
    const { [name]: _good, ...rest } = good();
    expect(_good).toBeDefined();
    loadConfig(configSchema, { ...rest, ...(value === undefined ? {} : { [name]: value }) });
  } catch (error) {
    return (error as Error).message.split('\n').find((line) => line.startsWith(`${name} `));
  }
  return undefined;
}

const wrong: Record<string, [string, string | undefined][]> = {
  DATA_KEY: [
    ['unset', undefined],
    ['empty', ''],
    ['a word', 'changeme'],
    ['a short key', randomBytes(31).toString('base64')],
    ['a short key of random bytes', randomBytes(16).toString('base64')],
    ['zeros', Buffer.alloc(32).toString('base64')],
    ['a repeated word', Buffer.from('changeme'.repeat(4)).toString('base64')],
    ['a path', '/apps/scheduler/src/enforcement/enforcement'],
  ],
  JWT_KEY: [
    ['unset', undefined],
    ['empty', ''],
    ['a word', 'changeme'],
    ['a symmetric key', randomBytes(32).toString('base64')],
    ['a key on another curve', pem('secp384r1')],
  ],
};

/** Everything in the repository that could be taken for a key. */
async function published(): Promise<{ keys: Set<string>; pems: Set<string> }> {
  const { stdout } = await run('git', ['ls-files', '-z'], { cwd: root, maxBuffer: 64 * 1024 * 1024 }).catch(
    () => ({
      stdout: walk(root).join('\0'),
    }),
  );
  const keys = new Set<string>();
  const pems = new Set<string>();
  for (const file of stdout.split('\0').filter((name) => name !== '')) {
    const path = resolve(root, file);
    if (!existsSync(path) || !statSync(path).isFile()) continue;
    const text = readFileSync(path, 'utf8');
    for (const [found] of text.matchAll(/[A-Za-z0-9+/_-]{42,44}={0,2}/g)) keys.add(found);
    // Shorter ones and words, too, wherever something looks like an assignment of a secret.
    for (const [, value = ''] of text.matchAll(/(?:KEY|SECRET|TOKEN)['"]?\s*[:=]\s*['"]?([^\s'",)]{1,200})/g))
      keys.add(value);
    for (const [found] of text.matchAll(/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?-----END [A-Z ]*-----/g))
      pems.add(found);
  }
  return { keys, pems };
}

/** Files of a checkout without git. */
function walk(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((item) => {
    if (['node_modules', 'dist', '.git', '.cache', '.penstock'].includes(item.name)) return [];
    const path = join(folder, item.name);
    return item.isDirectory() ? walk(path) : [path];
  });
}

describe('V01 no known keys', () => {
  for (const [name, cases] of Object.entries(wrong)) {
    test.each(cases)(`${name}, %s: the process ends with ${EXIT_CONFIG} and names it`, (_what, value) => {
      const env: Record<string, string | undefined> = { ...good(), [name]: value, PATH: process.env['PATH'] };
      const { status, stderr } = spawnSync(process.execPath, [entry], {
        env,
        encoding: 'utf8',
        timeout: 20_000,
      });
      expect(status).toBe(EXIT_CONFIG);
      expect(stderr).toContain(`${name} is not `);
      // Told by name, never shown.
      if (value !== undefined && value.length > 8) expect(stderr).not.toContain(value);
    });
  }

  test('nothing in this repository is taken for a key', async () => {
    const { keys, pems } = await published();
    expect(keys.size).toBeGreaterThan(100);
    for (const key of keys) expect(refusal('DATA_KEY', key), key).toBeDefined();
    for (const key of [...pems, ...keys]) expect(refusal('JWT_KEY', key), key.slice(0, 60)).toBeDefined();
    const own = good();
    expect(refusal('DATA_KEY', own['DATA_KEY'])).toBeUndefined();
    expect(refusal('JWT_KEY', own['JWT_KEY'])).toBeUndefined();
  });

  test('two fresh installations share no secret, and what they make is taken', async () => {
    const secretsOf = async (name: string): Promise<string[]> => {
      const folder = join(directory, name);
      mkdirSync(folder, { mode: 0o700 });
      await loadSecrets(folder);
      const files = walk(folder);
      for (const file of files) expect(statSync(file).mode & 0o077, file).toBe(0);
      return files.map((file) => readFileSync(file, 'utf8').trim());
    };
    const [one, two] = [await secretsOf('one'), await secretsOf('two')];
    expect(one.length).toBe(two.length);
    expect(one.length).toBeGreaterThan(5);
    expect(new Set([...one, ...two]).size).toBe(one.length + two.length);
    expect(
      refusal('DATA_KEY', readFileSync(join(directory, 'one', 'data-key'), 'utf8').trim()),
    ).toBeUndefined();
    expect(
      refusal('JWT_KEY', readFileSync(join(directory, 'one', 'jwt-key.pem'), 'utf8').trim()),
    ).toBeUndefined();
  });
});
