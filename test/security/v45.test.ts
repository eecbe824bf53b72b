// V45: configuration that many write at once is one valid file with all that was written, and a writer that is killed
// leaves the old or the new one, never a half.
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { allowCidr, forbidCidr, readOperatorConfig } from '@penstock/stack/operator-config';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';

const PROCESSES = 5;
const WRITERS = 20;

const built = fileURLToPath(new URL('../../packages/stack/dist/operator-config.js', import.meta.url));
const root = mkdtempSync(join(tmpdir(), 'penstock-v45-'));
let dir = root;

/** A process of its own that allows `count` ranges at once. */
function writer(index: number, count: number): { done: Promise<number | null>; kill: () => void } {
  const program = `
    const { allowCidr } = await import(${JSON.stringify(built)});
    await Promise.all(Array.from({ length: ${count} }, (_, i) =>
      allowCidr(${JSON.stringify(dir)}, '203.' + ${index} + '.' + i + '.0/24')));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return {
    done: new Promise((resolve) => child.once('close', resolve)),
    kill: () => void child.kill('SIGKILL'),
  };
}

describe('V45 configuration', () => {
  beforeEach(() => {
    dir = mkdtempSync(join(root, 'data-'));
  });
  afterAll(() => rmSync(root, { recursive: true }));

  test('100 parallel writers in several processes: one valid file, nothing lost', async () => {
    const before = (await readOperatorConfig(dir)).adminCidrs;
    const codes = await Promise.all(Array.from({ length: PROCESSES }, (_, i) => writer(i, WRITERS).done));
    expect(codes).toEqual(Array(PROCESSES).fill(0));
    const { adminCidrs } = await readOperatorConfig(dir);
    expect(new Set(adminCidrs).size).toBe(before.length + PROCESSES * WRITERS);
    expect(readdirSync(dir)).toEqual(['config.json']);
    expect(statSync(join(dir, 'config.json')).mode & 0o777).toBe(0o600);
  });

  test('writers killed at any moment: the file is valid each time, and the next one gets through', async () => {
    for (let round = 0; round < 8; round++) {
      const running = writer(round, 200);
      const deadline = performance.now() + 10_000;
      const size = async (): Promise<number> => (await readOperatorConfig(dir)).adminCidrs.length;
      const start = await size();
      while ((await size()) < start + 3 && performance.now() < deadline) await new Promise(setImmediate);
      running.kill();
      await running.done;
      const { adminCidrs } = await readOperatorConfig(dir);
      expect(adminCidrs.length).toBeGreaterThanOrEqual(start + 3);
      expect(() => JSON.parse(readFileSync(join(dir, 'config.json'), 'utf8')) as unknown).not.toThrow();
      const next = `198.51.${round}.0/24`;
      expect((await allowCidr(dir, next)).adminCidrs).toContain(next);
      for (const cidr of adminCidrs.filter((one) => one.startsWith('203.'))) await forbidCidr(dir, cidr);
    }
  });

  test('what is no range is refused and changes nothing; the last one stays', async () => {
    for (const wrong of [
      '',
      '0.0.0.0/0',
      '::/0',
      '10.0.0.0',
      '10.0.0.0/8,0.0.0.0/0',
      'x',
      '10.0.0.0/8\n',
      '1.0.0.0/4',
    ])
      await expect(allowCidr(dir, wrong), wrong).rejects.toThrow();
    const { adminCidrs } = await readOperatorConfig(dir);
    for (const cidr of adminCidrs.slice(1)) await forbidCidr(dir, cidr);
    await expect(forbidCidr(dir, adminCidrs[0] ?? '')).rejects.toThrow('the last range');
  });

  test.each([
    '',
    '{',
    '[]',
    '{"adminCidrs":[]}',
    '{"adminCidrs":["0.0.0.0/0"]}',
    '{"adminCidrs":["x"]}',
    '{"other":1}',
  ])('a file that somebody broke is told, never taken for everybody: %s', async (text) => {
    writeFileSync(join(dir, 'config.json'), text);
    await expect(readOperatorConfig(dir)).rejects.toThrow(/not usable/);
    await expect(allowCidr(dir, '203.0.113.0/24')).rejects.toThrow(/not usable/);
  });
});
