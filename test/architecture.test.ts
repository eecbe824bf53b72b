// The shape of the house as a test: who may import whom, how large a file may be, where SQL and the environment may
// be read. Row security and roles are checked against the catalog in packages/db/src/migrate.test.ts.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { expect, test } from 'vitest';

const root = resolve(import.meta.dirname, '..');

function filesUnder(directory: string): string[] {
  return readdirSync(join(root, directory), { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (['node_modules', 'dist', 'gen'].includes(entry.name)) return [];
    return entry.isDirectory() ? filesUnder(path) : [path];
  });
}

const sources = [...filesUnder('apps'), ...filesUnder('packages')].filter((file) => /\.tsx?$/.test(file));
const product = sources.filter(
  (file) => !/\.test\.ts$|\/test\//.test(file) && !file.startsWith('packages/testkit/'),
);

function imports(file: string): string[] {
  const text = readFileSync(join(root, file), 'utf8');
  return [...text.matchAll(/^(?:import\s+|(?:import|export)\b[^'"]*?\bfrom\s+)'([^']+)'/gm)].map(
    (match) => match[1] ?? '',
  );
}

const allowed: Record<string, string[]> = {
  'packages/domain': [],
  'packages/ledger': ['domain'],
  'packages/client': [],
  'packages/service': ['domain'],
  'packages/db': ['domain', 'service'],
  'packages/rpc': ['domain', 'service'],
  'packages/stack': ['domain', 'db', 'rpc', 'service'],
  'apps/control-api': ['domain', 'db', 'rpc', 'service'],
  'apps/scheduler': ['domain', 'db', 'rpc', 'ledger', 'service'],
  'apps/collector': ['domain', 'db', 'rpc', 'ledger', 'service'],
  'apps/node-agent': ['domain', 'rpc', 'ledger', 'service'],
  'apps/cli': ['client', 'domain', 'db', 'ledger', 'service', 'stack'],
};

test('packages and apps import only what the dependency rule allows', () => {
  const wrong: string[] = [];
  for (const file of product) {
    const part = file.split('/').slice(0, 2).join('/');
    for (const name of imports(file)) {
      if (name.startsWith('.')) {
        const target = relative(root, resolve(root, dirname(file), name));
        if (!target.startsWith(`${part}/`)) wrong.push(`${file} → ${name}`);
      } else if (name.startsWith('@penstock/')) {
        const other = name.split('/')[1] ?? '';
        if (other !== part.split('/')[1] && !(allowed[part] ?? []).includes(other))
          wrong.push(`${file} → ${name}`);
      }
    }
  }
  expect(wrong).toEqual([]);
});

test('the testkit is imported by tests only', () => {
  const wrong = product.filter((file) => imports(file).some((name) => name.startsWith('@penstock/testkit')));
  expect(wrong).toEqual([]);
});

test('no barrels, no drawers', () => {
  const wrong = product.filter((file) => /\/(index\.ts$|utils?\/|helpers?\/|common\/)/.test(file));
  expect(wrong).toEqual([]);
});

test('SQL stands in stores, in the scheduler’s tasks and in packages/db only', () => {
  const wrong = product.filter(
    (file) =>
      !/\.store\.ts$|\/tasks\//.test(file) &&
      !file.startsWith('packages/db/') &&
      imports(file).includes('@penstock/db/statement') &&
      /\bstatement[<(]/.test(readFileSync(join(root, file), 'utf8')),
  );
  expect(wrong).toEqual([]);
});

test('no shell, no eval, no code made of text [R3-15]', () => {
  const forbidden: [string, RegExp][] = [
    ['eval', /(?<![\w.])eval\s*\(/],
    ['Function from text', /\bnew\s+Function\b|(?<![\w.:])Function\s*\(|\.constructor\s*\(\s*['"`]/],
    ['vm', /['"](node:)?vm['"]/],
    ['a shell', /\bshell\s*:\s*(?!false)|['"](\/bin\/)?(ba|da|z|k)?sh['"]\s*,\s*\[/],
    ['a timer of text', /\bset(Timeout|Interval|Immediate)\s*\(\s*['"`]/],
    ['a module named by a value', /\bimport\s*\(\s*(?!['"])|(?<![\w.])require\s*\(\s*(?!['"])/],
    ['XML, LDAP or XPath', /['"](xml2js|fast-xml-parser|libxmljs2?|ldapjs|ldapts|xpath|xmldom)['"]/],
  ];
  const wrong = product.flatMap((file) => {
    const text = readFileSync(join(root, file), 'utf8').replace(/^\s*(\/\/|\*|\/\*).*$/gm, '');
    const found = forbidden.filter(([, pattern]) => pattern.test(text)).map(([what]) => `${file}: ${what}`);
    // Of node:child_process only what takes a program and a list of arguments.
    for (const [, names = ''] of text.matchAll(
      /import\s+(?:type\s+)?([^'"]*?)\s+from\s+'(?:node:)?child_process'/g,
    )) {
      const taken = names
        .replace(/[{}]/g, '')
        .split(',')
        .map((name) => name.replace(/\btype\b/, '').trim());
      const good = [
        'execFile',
        'execFileSync',
        'spawn',
        'spawnSync',
        'ChildProcess',
        'ChildProcessByStdio',
        '',
      ];
      for (const name of taken) if (!good.includes(name)) found.push(`${file}: ${name} of child_process`);
    }
    return found;
  });
  expect(wrong).toEqual([]);
});

test('no file of the product is longer than 600 lines', () => {
  const long = product.filter((file) => readFileSync(join(root, file), 'utf8').split('\n').length > 600);
  expect(long).toEqual([]);
});

test('every folder of an app has a main file that says what it owns', () => {
  const folders = new Set(product.filter((file) => file.startsWith('apps/')).map((file) => dirname(file)));
  const silent = [...folders].filter(
    (folder) =>
      !readdirSync(join(root, folder))
        .filter((name) => name.endsWith('.ts') && statSync(join(root, folder, name)).isFile())
        .some((name) => readFileSync(join(root, folder, name), 'utf8').startsWith('//')),
  );
  expect(silent).toEqual([]);
});
