import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

const packages = fileURLToPath(new URL('packages', import.meta.url));

export default defineConfig({
  // Tests run on the sources; test/e2e starts the built entry points as processes of their own.
  resolve: { alias: [{ find: /^@penstock\/([a-z-]+)\/(.+)$/, replacement: `${packages}/$1/src/$2.ts` }] },
  test: {
    include: ['packages/**/*.test.ts', 'apps/**/*.test.ts', 'test/**/*.test.ts', 'tools/**/*.test.ts'],
    exclude: ['**/node_modules/**', '**/dist/**'],
    testTimeout: 30_000,
    hookTimeout: 120_000,
    // On a shared CI machine a test that waits for other processes is tried twice; the report says so. Never elsewhere.
    retry: process.env['CI'] === 'true' ? 1 : 0,
    // Two cores: more workers only make each other late.
    maxWorkers: 2,
  },
});
