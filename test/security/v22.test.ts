// V22: the process cannot be steered over HTTP. No route ends it, profiles it, dumps it or opens a debugger, on the API's
// port or on the operations port.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { afterAll, describe, expect, test } from 'vitest';
import { controllers } from '../../apps/control-api/src/app.module.js';
import { routesOf } from '../../apps/control-api/src/http/routes.js';
import { startProcesses } from '../../apps/control-api/test/processes.js';
import { createWorld } from '../../apps/control-api/test/world.js';

const words = [
  ...['shutdown', 'stop', 'exit', 'kill', 'quit', 'restart', 'reload', 'debug', 'debug/pprof', 'debug/vars'],
  ...[
    'pprof',
    'inspector',
    'json',
    'json/version',
    'json/list',
    'heapdump',
    'heap',
    'profile',
    'trace',
    'gc',
  ],
  ...[
    'metrics',
    'health',
    'ready',
    'env',
    'config',
    'actuator',
    'actuator/env',
    'actuator/heapdump',
    'status',
  ],
  ...['admin', 'console', 'phpinfo', 'server-status', '_debug', '__debug__', 'repl', 'eval', 'exec', 'log'],
];

describe('V22 process control', async () => {
  const world = await createWorld();
  const owner = await world.person(world.platform, 'owner');
  const [api] = await startProcesses(world, 1);
  afterAll(async () => {
    await api?.stop();
    await world.close();
  });

  test('no route of ours is one', () => {
    const control = /shutdown|restart|debug|pprof|inspector|heap|profil|\bgc\b|reload|\benv\b|\bexec\b|eval/;
    expect(routesOf(controllers).filter((route) => control.test(route.path))).toEqual([]);
  });

  test('to the platform’s owner too everything of that name is not there, and the process lives on', async () => {
    for (const word of words) {
      for (const path of [`/${word}`, `/api/${word}`, `/api/v1/${word}`]) {
        for (const method of ['GET', 'POST', 'PUT', 'DELETE']) {
          const answer = await fetch(`${api?.url}${path}`, {
            method,
            headers: { authorization: `Bearer ${owner.token}` },
          });
          const { code } = (await answer.json()) as { code?: string };
          expect([answer.status, code], `${method} ${path}`).toEqual([404, 'not_found']);
        }
      }
    }
    expect(api?.child.exitCode).toBeNull();
  });

  test('the operations port answers three questions and takes no orders', async () => {
    const port = listening(api?.pid ?? 0).find((each) => each !== Number(new URL(api?.url ?? '').port));
    const ops = `http://127.0.0.1:${port}`;
    expect((await fetch(`${ops}/health`)).status).toBe(200);
    for (const word of words.filter((one) => !['health', 'ready', 'metrics'].includes(one)))
      expect((await fetch(`${ops}/${word}`)).status, word).toBe(404);
    for (const path of ['/health', '/ready', '/metrics', '/shutdown'])
      expect((await fetch(`${ops}${path}`, { method: 'POST' })).status, path).toBe(405);
  });

  test('no debugger listens', async () => {
    const answers = await new Promise((resolve) => {
      const socket = connect(9229, '127.0.0.1', () => resolve(true));
      socket.once('error', () => resolve(false));
    });
    expect(answers).toBe(false);
    expect(listening(api?.pid ?? 0)).toHaveLength(2);
  });
});

/** TCP ports that a process listens on, as the system knows them. */
function listening(pid: number): number[] {
  const inodes = new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
      } catch {
        return [];
      }
    }),
  );
  return ['tcp', 'tcp6'].flatMap((table) =>
    readFileSync(`/proc/${pid}/net/${table}`, 'utf8')
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/))
      .filter((fields) => fields[3] === '0A' && inodes.has(fields[9] ?? ''))
      .map((fields) => Number.parseInt(fields[1]?.split(':')[1] ?? '0', 16)),
  );
}
