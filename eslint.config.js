// Rules that matter in servers; prettier does the rest.
import tseslint from 'typescript-eslint';
import { noPlainSecretComparison } from './tools/lint/secret-comparison.js';

const files = [
  'apps/*/src/**/*.ts',
  'apps/*/test/**/*.ts',
  'packages/*/src/**/*.ts',
  'test/**/*.ts',
  'bench/**/*.ts',
  'tools/**/*.ts',
];
const tests = ['**/*.test.ts', 'apps/*/test/**', 'packages/testkit/**', 'test/**', 'bench/**'];

const noEnvironment = {
  selector: "MemberExpression[object.name='process'][property.name='env']",
  message: 'Only packages/service/src/config.ts reads the environment.',
};
const noWallClock = {
  selector: "CallExpression[callee.object.name='Date'][callee.property.name='now']",
  message: 'Time comes from an injected Clock.',
};
const noShell = {
  selector: "Property[key.name='shell'][value.value=true]",
  message: 'No shell: argv arrays only.',
};
const noDefaultExport = { selector: 'ExportDefaultDeclaration', message: 'Named exports only.' };

export default tseslint.config(
  { ignores: ['**/dist/**', '**/node_modules/**', 'packages/*/src/gen/**', '.penstock/**', '.cache/**'] },
  {
    files,
    extends: [tseslint.configs.base],
    languageOptions: {
      parserOptions: { project: ['./tsconfig.lint.json'], tsconfigRootDir: import.meta.dirname },
    },
    plugins: { penstock: { rules: { 'no-plain-secret-comparison': noPlainSecretComparison } } },
    rules: {
      'penstock/no-plain-secret-comparison': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': [
        'error',
        { checksVoidReturn: { arguments: false, attributes: false } },
      ],
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-non-null-assertion': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      'no-eval': 'error',
      'no-new-func': 'error',
      eqeqeq: 'error',
      'no-restricted-syntax': ['error', noEnvironment, noWallClock, noShell, noDefaultExport],
      'no-restricted-imports': [
        'error',
        { paths: [{ name: 'node:child_process', importNames: ['exec', 'execSync'], message: 'No shell.' }] },
      ],
    },
  },
  {
    files: tests,
    rules: {
      'no-restricted-syntax': ['error', noShell],
      '@typescript-eslint/no-non-null-assertion': 'off',
      'penstock/no-plain-secret-comparison': 'off',
    },
  },
  {
    files: ['packages/service/src/**'],
    rules: { 'no-restricted-syntax': ['error', noWallClock, noShell, noDefaultExport] },
  },
  { files: ['packages/domain/src/clock.ts'], rules: { 'no-restricted-syntax': 'off' } },
);
