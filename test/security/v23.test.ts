// V23: a path has one spelling. However it is written otherwise, escaped, doubled, dotted or in capitals, no guard is
// passed that the plain spelling meets: directly and through Caddy the answer is a refusal that shows nothing.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '@penstock/testkit/traffic/xray-client';
import { caddyfile } from '@penstock/stack/caddy';
import { writeTlsFiles } from '@penstock/testkit/trust';
import { afterAll, describe, expect, test } from 'vitest';
import { scene } from '../../apps/control-api/test/scene.js';
import { createWorld } from '../../apps/control-api/test/world.js';
import { rawRequest } from './raw-http.js';

const hasCaddy = spawnSync('caddy', ['version']).status === 0;

/** Other ways to write `path`, each meant to be read as it by somebody. */
function spellings(path: string): string[] {
  const hex = (text: string, upper = false): string => {
    const code = (text.codePointAt(0) ?? 0).toString(16).padStart(2, '0');
    return `%${upper ? code.toUpperCase() : code}`;
  };
  const all = new Set<string>();
  const slashes = [...path.matchAll(/\//g)].map(({ index }) => index);
  const at = (index: number, put: string, drop = 1): string =>
    path.slice(0, index) + put + path.slice(index + drop);
  for (const index of slashes) {
    for (const put of [
      '%2f',
      '%2F',
      '//',
      '/./',
      '/%2e/',
      '/x/../',
      '/x/%2e%2e/',
      '/x/..%2f',
      '\\',
      '%5c',
      '/;/',
      '/;x=1/',
      '/%00/',
      '/%20/',
      '/%09/',
      '%252f',
      '/.%2f',
      '\u00a0/',
    ])
      all.add(at(index, put));
  }
  for (let index = 1; index < path.length; index += 3) {
    const letter = path[index] ?? '';
    if (letter === '/') continue;
    all.add(at(index, hex(letter)));
    all.add(at(index, hex(letter, true)));
    all.add(at(index, `%25${hex(letter).slice(1)}`));
    // An id is an id in capitals too; the rest of a path is not.
    if (index < 21 && letter !== letter.toUpperCase()) all.add(at(index, letter.toUpperCase()));
  }
  for (const end of [
    '/',
    '//',
    '/.',
    '/..',
    '/../',
    '%20',
    '%00',
    ';',
    ';x',
    ';x=1',
    '.',
    '..',
    '.json',
    '~',
    '%3f',
    '%23',
    '/%2e%2e',
    '\\',
    '%0a',
    '%0d%0aX:1',
    '&',
    '%c0%af',
    '%e0%80%af',
    '%u002f',
  ])
    all.add(path + end);
  for (const front of ['/', '/.', '/./', '/x/..', '/%2e', '//evil.example', '/%2f', '/;', '\\'])
    all.add(front + path);
  all.delete(path);
  return [...all];
}

describe('V23 paths', async () => {
  const world = await createWorld({ env: { TRUSTED_PROXIES: '127.0.0.0/8' } });
  const own = await scene(world, await world.person(await world.tenant(), 'owner'));
  const ways: [string, string][] = [['directly', world.url]];
  let caddy: ChildProcess | undefined;
  if (hasCaddy) {
    const [apiPort, nodePort, enrollPort, metricsPort] = (await Promise.all([
      freePort(),
      freePort(),
      freePort(),
      freePort(),
    ])) as [number, number, number, number];
    const directory = join(world.directory, 'caddy');
    mkdirSync(directory);
    const files = writeTlsFiles(join(directory, 'tls'), await world.trust.service('caddy'));
    const address = new URL(world.url).host;
    writeFileSync(
      join(directory, 'Caddyfile'),
      caddyfile({
        ...{ apiHost: '127.0.0.1', edgeHost: '127.0.0.1', apiPort, nodePort, enrollPort, metricsPort },
        ...{ storageDir: directory, accessLog: join(directory, 'access.log') },
        tls: { cert: files.certFile, key: files.keyFile, root: files.rootFile },
        upstreams: {
          api: address,
          enroll: ['localhost:1'],
          scheduler: ['localhost:1'],
          collector: ['localhost:1'],
        },
      }),
    );
    caddy = spawn('caddy', ['run', '--config', join(directory, 'Caddyfile'), '--adapter', 'caddyfile'], {
      stdio: 'ignore',
      env: { PATH: process.env['PATH'] ?? '', HOME: directory },
    });
    const deadline = performance.now() + 15_000;
    while (
      !(await fetch(`http://127.0.0.1:${metricsPort}/ready`).then(
        (answer) => answer.ok,
        () => false,
      ))
    ) {
      if (performance.now() > deadline) throw new Error('Caddy does not start');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    ways.push(['through Caddy', `http://127.0.0.1:${apiPort}`]);
  }
  afterAll(async () => {
    if (caddy !== undefined && caddy.exitCode === null) {
      caddy.kill('SIGTERM');
      await once(caddy, 'exit');
    }
    await world.close();
  });

  const bearer = [`Authorization: Bearer ${own.admin.token}`];
  const targets: [string, string][] = [
    ['a list', '/api/v1/plans'],
    ['one object', `/api/v1/subscriptions/${own.subscriptionId}`],
    ['a secret', `/api/v1/subscriptions/${own.subscriptionId}/access`],
  ];

  test.each(ways.flatMap((way) => targets.map((target) => [...way, ...target] as const)))(
    '%s (%s) to %s: no other spelling gets in without a token, none shows what the plain one shows to a stranger',
    async (_way, url, _what, path) => {
      const plain = await rawRequest(url, 'GET', path, bearer);
      const all = spellings(path);
      expect(all.length).toBeGreaterThan(80);
      for (const target of all) {
        const [nobody, person] = await Promise.all([
          rawRequest(url, 'GET', target),
          rawRequest(url, 'GET', target, bearer),
        ]);
        expect([301, 302, 308, 400, 401, 404], `${target} ${nobody.head}`).toContain(nobody.status);
        expect(JSON.stringify(nobody.body), target).not.toContain(own.subscriptionId);
        // Guard and router agree: what the router takes for this route the guard has seen as this route.
        if (person.status === 200) {
          expect(plain.status).toBe(200);
          expect(nobody.status, target).toBe(401);
        }
        expect(person.status, target).toBeLessThan(500);
      }
    },
  );

  test.each(ways)('%s (%s): the plain spelling works', async (_way, url) => {
    expect((await rawRequest(url, 'GET', '/api/v1/plans', bearer)).status).toBe(200);
    expect((await rawRequest(url, 'GET', '/api/v1/plans')).status).toBe(401);
  });

  test('directly, no other spelling is anything at all', async () => {
    for (const [, path] of targets) {
      for (const target of spellings(path)) {
        // A further path segment or dot is another plain path; it must not be this route.
        const { status } = await rawRequest(world.url, 'GET', target, bearer);
        expect([400, 404], target).toContain(status);
      }
    }
  });

  test('an absolute target and another method’s name are not ours', async () => {
    for (const target of ['http://evil.example/api/v1/plans', '*', 'evil.example:443', 'api/v1/plans'])
      expect((await rawRequest(world.url, 'GET', target, bearer)).status, target).not.toBe(200);
    for (const method of ['TRACE', 'CONNECT', 'PROPFIND', 'OPTIONS', 'LINK', 'get', 'QUERY'])
      expect((await rawRequest(world.url, method, '/api/v1/plans', bearer)).status, method).not.toBe(200);
    for (const header of [
      'X-HTTP-Method-Override: DELETE',
      'X-Original-URL: /api/v1/tenants',
      'X-Rewrite-URL: /setup',
    ])
      expect((await rawRequest(world.url, 'GET', '/api/v1/plans', [...bearer, header])).status).toBe(200);
  });
});
