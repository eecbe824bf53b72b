import { createHash, generateKeyPairSync, sign } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { headerText, lineText, STATEMENT_FORMAT } from '@penstock/domain/statement';
import type { Context } from '../context.js';
import { statementCommands } from './statements.js';

const keys = generateKeyPairSync('ed25519');
const spki = keys.publicKey.export({ format: 'der', type: 'spki' });
const fingerprint = createHash('sha256').update(spki).digest('hex');
let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'penstock-statement-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
  process.exitCode = undefined;
});

/** A signed file; returns its path and the digest that the next one names. */
function write(month: string, previous: string | null): { file: string; text: string; digest: string } {
  const bytes = { upBytes: 1n, downBytes: 2n, billableBytes: 4n };
  const line = lineText({
    month,
    subscriptionId: '018f0000-0000-7000-8000-000000000001',
    engine: 'xray',
    ...bytes,
  });
  const header = headerText({
    ...{ format: STATEMENT_FORMAT, tenantId: 'tenant', statementId: month, month, timeZone: 'UTC' },
    ...{ closedAt: '2026-11-03T00:00:00.000Z', lines: 1 },
    linesDigest: createHash('sha256').update(line).digest('hex'),
    usage: { upBytes: '1', downBytes: '2', billableBytes: '4' },
    corrections: { lines: 0, upBytes: '0', downBytes: '0', billableBytes: '0' },
    ...{ previous, keyId: 'key' },
  });
  const signature = sign(null, Buffer.from(header), keys.privateKey).toString('base64');
  const text = `${header}\n${JSON.stringify({ signature, publicKey: spki.toString('base64') })}\n${line}`;
  const file = join(directory, `${month}.ndjson`);
  writeFileSync(file, text);
  return { file, text, digest: createHash('sha256').update(header).digest('hex') };
}

async function verify(...args: string[]): Promise<string> {
  let text = '';
  const program = new Command().exitOverride();
  const context = { output: () => ({ json: false, write: (more: string) => void (text += more) }) };
  statementCommands(program, context as unknown as Context);
  await program.parseAsync(['statement', 'verify', ...args], { from: 'user' });
  return text;
}

describe('statement verify', () => {
  it('finds that files hold, with the key that signed', async () => {
    const august = write('2026-08', null);
    const september = write('2026-09', august.digest);
    expect(await verify(september.file, august.file, '--key', fingerprint)).toMatch(/holds[^]*holds/);
    expect(process.exitCode).toBeUndefined();
    expect(await verify(august.file)).toContain(fingerprint);
  });

  it('names a changed line, another key and a broken chain, and fails', async () => {
    const august = write('2026-08', null);
    writeFileSync(august.file, august.text.replace('"4"]', '"5"]'));
    expect(await verify(august.file)).toContain('WRONG: the lines are not those that were signed');
    expect(process.exitCode).toBe(1);
    const again = write('2026-08', null);
    expect(await verify(again.file, '--key', '00')).toContain('another key');
    const september = write('2026-09', '00'.repeat(32));
    expect(await verify(again.file, september.file)).toContain('does not name');
  });

  it('refuses what is no statement', async () => {
    const file = join(directory, 'notes.txt');
    writeFileSync(file, 'hello\n');
    await expect(verify(file)).rejects.toThrow(/not a penstock-statement/);
    await expect(verify(join(directory, 'absent'))).rejects.toThrow(/cannot be read/);
  });
});
