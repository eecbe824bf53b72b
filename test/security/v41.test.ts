// V41: no secret is compared byte by byte until the first difference. A lint rule finds such comparisons by name, over
// the whole product; this test shows that it finds them, that there are none, and that the comparison we use takes its
// time from nothing it compares.
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Linter, type Rule } from 'eslint';
import tseslint from 'typescript-eslint';
import { describe, expect, test } from 'vitest';
import { sameSecret } from '@penstock/service/secret-compare';

const root = resolve(import.meta.dirname, '../..');
const linter = new Linter();
// Plain JavaScript without types: what eslint itself reads.
const load = (file: string): Promise<unknown> => import(join(root, file));
const { noPlainSecretComparison } = (await load('tools/lint/secret-comparison.js')) as {
  noPlainSecretComparison: Rule.RuleModule;
};
const { default: config } = (await load('eslint.config.js')) as {
  default: { rules?: Record<string, unknown> }[];
};

function faults(text: string, file = 'a.ts'): string[] {
  const messages = linter.verify(
    text,
    [
      {
        files: ['**/*.ts', '**/*.tsx'],
        languageOptions: { parser: tseslint.parser as never },
        plugins: { penstock: { rules: { 'no-plain-secret-comparison': noPlainSecretComparison } } },
        rules: { 'penstock/no-plain-secret-comparison': 'error' },
        linterOptions: { reportUnusedDisableDirectives: 'off' },
      },
    ],
    { filename: file, allowInlineConfig: false },
  );
  return messages.map(({ line, message }) => `${file}:${line} ${message}`);
}

function sources(directory: string): string[] {
  return readdirSync(join(root, directory), { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (['node_modules', 'dist', 'gen', 'test', 'testkit'].includes(entry.name)) return [];
    if (entry.isDirectory()) return sources(path);
    return /\.tsx?$/.test(entry.name) && !entry.name.endsWith('.test.ts') ? [path] : [];
  });
}

describe('V41 timing of comparisons', () => {
  test('the rule finds what can be timed', () => {
    const wrong = [
      'if (token === given) {}',
      'if (row.refreshToken !== body.token) {}',
      "if (config.apiKey == 'built in') {}",
      'if (this.#secret === x) {}',
      'const ok = mac.equals(expected);',
      'const ok = expected.equals(mac);',
      'Buffer.compare(sessionSecret, other);',
      'if (String(request.csrf) !== cookie) {}',
      "if (password.toString('hex') === stored) {}",
      'if (secret! === other) {}',
      "if (env['DATA_SECRET'] === other) {}",
      'const ok = tokens.includes(token);',
      'switch (otp) { case x: break; }',
      'if ((token as string) === other) {}',
      'if (Buffer.from(token) === other) {}',
    ];
    for (const text of wrong) expect(faults(text), text).toHaveLength(1);
  });

  test('and lets pass what asks whether there is one, or compares what is none', () => {
    const right = [
      'if (token === undefined) {}',
      'if (null !== secret) {}',
      "if (password === '') {}",
      "if (typeof token === 'string') {}",
      'if (tokenId === other) {}',
      'if (row.secretVersion === 1) {}',
      "if (token.startsWith('psr1.')) {}",
      'if (sameSecret(token, given)) {}',
      'if (kind === other) {}',
    ];
    for (const text of right) expect(faults(text), text).toEqual([]);
  });

  test('nothing in the product compares a secret so, and no comment switches the rule off', () => {
    const files = [...sources('apps'), ...sources('packages')];
    expect(files.length).toBeGreaterThan(200);
    const wrong = files.flatMap((file) => faults(readFileSync(join(root, file), 'utf8'), file));
    expect(wrong).toEqual([]);
  });

  test('the rule is an error in the configuration that `npm run lint` uses', () => {
    const rules = config.map((part) => part.rules ?? {});
    expect(rules.some((part) => part['penstock/no-plain-secret-comparison'] === 'error')).toBe(true);
  });

  test('sameSecret compares text and bytes of any length', () => {
    const secret = 'psr1.0123456789';
    expect(sameSecret(secret, Buffer.from(secret))).toBe(true);
    for (const other of ['', 'psr1.0123456788', 'psr1.012345678', `${secret}0`, Buffer.alloc(0)]) {
      expect(sameSecret(secret, other)).toBe(false);
    }
  });

  test('its time does not tell where two secrets part', { retry: 2 }, () => {
    const secret = Buffer.alloc(4096, 1);
    const early = Buffer.from(secret);
    early[0] = 0;
    const late = Buffer.from(secret);
    late[4095] = 0;
    const rounds = 60;
    const times = { early: [] as number[], late: [] as number[] };
    for (let round = 0; round < rounds * 2; round++) {
      const kind = round % 2 === 0 ? 'early' : 'late';
      const other = kind === 'early' ? early : late;
      const startNs = process.hrtime.bigint();
      for (let i = 0; i < 200; i++) sameSecret(secret, other);
      times[kind].push(Number(process.hrtime.bigint() - startNs));
    }
    const [a, b] = [times.early, times.late].map((list) => list.sort((x, y) => x - y)[rounds / 2] ?? 0);
    // A comparison that stops at the first difference is a hundred times faster on the first pair.
    expect(Math.abs((a ?? 0) - (b ?? 0)) / Math.max(a ?? 1, b ?? 1)).toBeLessThan(0.25);
  });
});
