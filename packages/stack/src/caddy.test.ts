import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { caddyfile, certificateHeader, type CaddyOptions } from './caddy.js';

const options: CaddyOptions = {
  apiHost: '127.0.0.1',
  edgeHost: '0.0.0.0',
  apiPort: 20001,
  nodePort: 20002,
  enrollPort: 20003,
  metricsPort: 20004,
  storageDir: '/tmp/storage',
  accessLog: '/tmp/access.log',
  tls: { cert: '/tmp/cert.pem', key: '/tmp/key.pem', root: '/tmp/root.pem' },
  upstreams: {
    api: '127.0.0.1:20005',
    enroll: ['localhost:20006'],
    scheduler: ['localhost:20007', 'localhost:20008'],
    collector: ['localhost:20009'],
  },
};

test('every way through Caddy overwrites or removes the certificate header', () => {
  const text = caddyfile(options);
  const proxies = text.split('reverse_proxy').slice(1);
  expect(proxies).toHaveLength(4);
  for (const proxy of proxies) {
    expect(proxy).toMatch(new RegExp(`header_up -?${certificateHeader}`));
  }
  expect(text.match(/require_and_verify/g)).toHaveLength(1);
});

test('a path that would end its quotes is refused', () => {
  expect(() => caddyfile({ ...options, accessLog: '/tmp/a"b' })).toThrow(/quotes/);
});

test.skipIf(spawnSync('caddy', ['version']).status !== 0)('Caddy understands the file', () => {
  const dir = mkdtempSync(join(tmpdir(), 'penstock-caddy-'));
  try {
    const file = join(dir, 'Caddyfile');
    writeFileSync(file, caddyfile(options).replace(/trusted_ca_cert_file.*\n/, '\n'));
    const said = spawnSync('caddy', ['adapt', '--config', file, '--adapter', 'caddyfile'], {
      encoding: 'utf8',
    });
    expect(said.stderr).not.toMatch(/Error|error/);
    expect(said.status).toBe(0);
    const adapted = JSON.parse(said.stdout) as {
      admin: { disabled: boolean };
      apps: { http: { servers: object } };
    };
    expect(adapted.admin.disabled).toBe(true);
    expect(Object.keys(adapted.apps.http.servers)).toHaveLength(4);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
