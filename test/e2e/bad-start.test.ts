// A process that cannot run says why in one sentence and ends with a code that is not 0. Each is started as the stack
// starts it, with one thing wrong; the running ones are not disturbed.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { World, type NodeOfWorld } from './world.js';

const EXIT_CONFIG = 78;
const ENDS_WITHIN_MS = 20_000;

let world: World;
let node: NodeOfWorld;

beforeAll(async () => {
  world = await World.start();
  node = await world.addNode('one', ['xray']);
});
afterAll(() => world?.destroy());

interface End {
  code: number | null;
  said: string;
}

/** Starts the process `name` of the stack again, with these variables changed (undefined: left out). */
async function start(name: string, change: Record<string, string | undefined>): Promise<End> {
  const { command, env, cwd } = world.stack.process(name).spec;
  const [program, ...args] = command;
  const changed = Object.entries({ ...env, OPS_PORT: '0', ...change }).filter(
    (entry) => entry[1] !== undefined,
  );
  const child = spawn(program, args, {
    cwd,
    env: Object.fromEntries(changed) as Record<string, string>,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data: Buffer) => (said += data.toString()));
  const timer = setTimeout(() => child.kill('SIGKILL'), ENDS_WITHIN_MS);
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  clearTimeout(timer);
  return { code, said };
}

/** Ended by itself, with a sentence that names the matter and without a stack trace on standard error. */
function expectSentence({ code, said }: End, matter: RegExp): void {
  expect(code, said).not.toBeNull();
  expect(code, said).not.toBe(0);
  expect(said).toMatch(matter);
  const plain = said.split('\n').filter((line) => !line.startsWith('{'));
  expect(plain.filter((line) => /^\s+at /.test(line))).toEqual([]);
}

const processes = ['control-api', 'scheduler', 'collector', 'node-agent-one'];

test.each(processes)('%s with a broken configuration names each variable [R1-07]', async (name) => {
  const wrong = name === 'node-agent-one' ? { AGENT_DIR: undefined } : { DATABASE_URL_FILE: undefined };
  const end = await start(name, { ...wrong, LOG_LEVEL: 'loud' });
  expect(end.code).toBe(EXIT_CONFIG);
  expectSentence(end, /Configuration is not usable/);
  expect(end.said).toMatch(name === 'node-agent-one' ? /AGENT_DIR is not set/ : /DATABASE_URL is not set/);
  expect(end.said).toMatch(/LOG_LEVEL is not valid/);
});

test.each(processes)('%s with a port that is taken says which', async (name) => {
  const taken = String(world.stack.ports[`${name}-ops`] ?? world.stack.ports['collector-ops']);
  const own = name === 'node-agent-one' ? { AGENT_DIR: join(world.dir, 'another') } : {};
  const ports = name === 'control-api' ? { HTTP_PORT: '0' } : { GRPC_PORT: '0', ENROLL_PORT: '0' };
  expectSentence(await start(name, { ...ports, ...own, OPS_PORT: taken }), new RegExp(taken));
  const main = { 'control-api': 'HTTP_PORT', scheduler: 'GRPC_PORT', collector: 'GRPC_PORT' }[name];
  if (main === undefined) return;
  expectSentence(await start(name, { ...ports, [main]: taken }), new RegExp(taken));
});

test.each(['control-api', 'scheduler', 'collector'])(
  '%s without its certificate says which file [R1-07]',
  async (name) => {
    const missing = join(world.dir, 'nowhere.pem');
    expectSentence(
      await start(name, { GRPC_PORT: '0', ENROLL_PORT: '0', HTTP_PORT: '0', TLS_KEY_FILE: missing }),
      /nowhere\.pem/,
    );
  },
);

test.each(['control-api', 'scheduler', 'collector'])(
  '%s with a secret that cannot be read says which file',
  async (name) => {
    const end = await start(name, { DATABASE_URL_FILE: join(world.dir, 'nowhere.url') });
    expect(end.code).toBe(EXIT_CONFIG);
    expectSentence(end, /DATABASE_URL_FILE cannot be read \(ENOENT\)/);
  },
);

test('node-agent with a directory that cannot be written says which [R1-07]', async () => {
  // A file where the directory should be: refused to root as well.
  const file = join(world.dir, 'a-file');
  writeFileSync(file, '');
  expectSentence(await start('node-agent-one', { AGENT_DIR: join(file, 'agent') }), /a-file/);
});

test('node-agent without an identity and without a token says what it needs [R1-07]', async () => {
  const dir = join(world.dir, 'fresh');
  mkdirSync(dir, { mode: 0o700 });
  expectSentence(
    await start('node-agent-one', { AGENT_DIR: dir, JOIN_TOKEN_FILE: undefined }),
    /join token/i,
  );
});

test('node-agent on a directory that another agent uses says so', async () => {
  const end = await start('node-agent-one', { JOIN_TOKEN_FILE: undefined });
  expectSentence(end, /another|lock/i);
  expect(existsSync(join(node.agentDir, 'journal'))).toBe(true);
});

test('node-agent with an engine’s program that is not there says which', async () => {
  // On the node's own identity, which only one agent may use at a time.
  await world.stack.process(node.process).stop();
  expectSentence(
    await start('node-agent-one', { XRAY_BIN: '/nowhere/xray', PATH: '/nowhere' }),
    /\/nowhere\/xray/,
  );
  await world.stack.restart(node.process);
});
