// The driver against the real Xray: a server driven by it, real Xray clients behind loopback, an origin.
import { randomBytes, randomUUID } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setTimeout as wait } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Access } from '@penstock/domain/access';
import { systemClock } from '@penstock/domain/clock';
import { newId } from '@penstock/domain/ids';
import type { SubscriptionId, TenantId } from '@penstock/domain/ids';
import { startOrigin } from '@penstock/testkit/traffic/origin';
import type { Origin } from '@penstock/testkit/traffic/origin';
import { download, openStream, upload } from '@penstock/testkit/traffic/socks-client';
import type { SocksTarget } from '@penstock/testkit/traffic/socks-client';
import { freePort, startXrayClient } from '@penstock/testkit/traffic/xray-client';
import type { XrayClient } from '@penstock/testkit/traffic/xray-client';
import type { CounterReading, CutResult } from '../engine.js';
import { bootOf, processesOn } from './proc.js';
import { canDestroySockets, listSockets } from './sockets.js';
import { XrayEngine } from './xray.engine.js';
import type { XrayEngineOptions } from './xray.engine.js';

const bin = process.env['XRAY_BIN'] ?? '';
const noop = async (): Promise<void> => undefined;
const tenantId = newId<TenantId>();

function newAccess(): Access {
  const hex = randomBytes(16).toString('hex');
  const vlessId = `${hex.slice(0, 8)}-${hex.slice(8, 12)}-0000-${hex.slice(16, 20)}-${hex.slice(20)}`;
  return { tenantId, subscriptionId: newId<SubscriptionId>(), xray: { vlessId, flow: '' } };
}

async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
  timeoutMs = 10_000,
): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`never happened: ${what}`);
    await wait(5);
  }
}

const quiet = { info: () => undefined, warn: () => undefined, error: () => undefined };

describe.skipIf(bin === '')('the Xray driver on a real Xray', () => {
  let dir: string;
  let options: XrayEngineOptions;
  let engine: XrayEngine;
  let origin: Origin;
  let clients: XrayClient[];
  let children: ChildProcess[];

  beforeEach(async () => {
    dir = mkdtempSync(join(tmpdir(), 'penstock-xray-'));
    const ports = [await freePort(), await freePort()];
    options = {
      bin,
      dir: join(dir, 'run'),
      inbounds: ports.map((port, index) => ({
        tag: `vless-${index}`,
        listen: '127.0.0.1',
        port,
        security: 'none',
      })),
      blockPrivateEgress: true,
      allowEgress: ['127.0.0.1/32'],
      clock: systemClock,
      log: quiet,
    };
    engine = new XrayEngine(options);
    origin = await startOrigin();
    clients = [];
    children = [];
  });

  afterEach(async () => {
    await Promise.all(clients.map((client) => client.stop()));
    for (const child of children) if (child.exitCode === null) child.kill('SIGKILL');
    await engine.stop();
    await origin.close();
    expect(await processesOn(join(options.dir, 'config.json'))).toEqual([]);
    rmSync(dir, { recursive: true });
  });

  async function clientOf(access: Access, inbound = 0, muxConcurrency?: number): Promise<SocksTarget> {
    const client = await startXrayClient({
      bin,
      serverHost: '127.0.0.1',
      serverPort: options.inbounds[inbound]?.port ?? 0,
      vlessId: access.xray?.vlessId ?? '',
      ...(muxConcurrency === undefined ? {} : { muxConcurrency }),
    });
    clients.push(client);
    return { socksPort: client.socksPort, originHost: '127.0.0.1', originPort: origin.port };
  }

  async function countersOf({ subscriptionId }: Access, from = engine): Promise<CounterReading> {
    const none: CounterReading = { subscriptionId, deviceId: null, boot: '', up: 0n, down: 0n };
    return (await from.counters()).find((reading) => reading.subscriptionId === subscriptionId) ?? none;
  }

  test('bytes counted are bytes moved, both ways, summed over inbounds', async () => {
    const access = newAccess();
    await engine.start([access]);
    const target = await clientOf(access);
    const down = await download(target, 5_000_123);
    const up = await upload(await clientOf(access, 1), 3_000_457);
    expect(down).toMatchObject({ complete: true, error: '' });
    expect(up).toMatchObject({ complete: true, error: '' });
    const reading = await countersOf(access);
    expect(reading.up).toBe(BigInt(down.sentBytes + up.sentBytes));
    expect(reading.down).toBe(BigInt(down.receivedBytes + up.receivedBytes));
    expect(reading.boot).toMatch(/^[0-9a-f]{32}$/);
  });

  test('counters of an open stream are live', async () => {
    const access = newAccess();
    await engine.start([access]);
    const stream = await openStream(await clientOf(access), 2_000_000);
    const first = await countersOf(access);
    await until(async () => (await countersOf(access)).down > first.down + 200_000n, 'the counter grows');
    stream.abort();
    await stream.done;
  });

  test.runIf(canDestroySockets())(
    'a cut ends the open session and not the neighbour’s behind the same address',
    async () => {
      const [cut, neighbour] = [newAccess(), newAccess()];
      await engine.start([cut, neighbour]);
      const target = await clientOf(cut);
      const streams = await Promise.all([openStream(target, 0), openStream(target, 500_000)]);
      const beside = await openStream(await clientOf(neighbour), 1_000_000);
      const order: string[] = [];
      const results = await engine.cut([cut.subscriptionId], async () => {
        order.push('before removal');
        expect((await engine.counters()).length).toBe(2);
      });
      expect(order).toEqual(['before removal']);
      const result = results.get(cut.subscriptionId);
      expect(result).toMatchObject({ ended: true, sessionsEnded: 2, reason: '' });
      expect(result?.unattributed).toBeUndefined();
      for (const stream of streams) expect((await stream.done).complete).toBe(false);
      const silent = origin.connections.filter(({ open }) => !open).length;
      expect(silent).toBe(2);
      // He cannot come back, and what was counted stays as it was at the proof.
      const atProof = await countersOf(cut);
      expect((await download(target, 1_000)).complete).toBe(false);
      expect(await countersOf(cut)).toEqual(atProof);
      expect((await engine.readBack()).admitted.has(cut.subscriptionId)).toBe(false);
      const before = beside.receivedBytes;
      await until(() => beside.receivedBytes > before + 300_000, 'the neighbour goes on');
      expect(beside.open).toBe(true);
      beside.abort();
      console.log(`cut ${result?.cutMs.toFixed(1)} ms, proven ${result?.provenMs.toFixed(1)} ms`);
    },
  );

  test.runIf(canDestroySockets())('an open mux session cannot open new streams after a cut', async () => {
    const access = newAccess();
    await engine.start([access]);
    const target = await clientOf(access, 0, 8);
    const streams = await Promise.all([openStream(target, 100_000), openStream(target, 100_000)]);
    expect((await listSockets([options.inbounds[0]?.port ?? 0])).length).toBe(1);
    const result = (await engine.cut([access.subscriptionId], noop)).get(access.subscriptionId);
    expect(result).toMatchObject({ ended: true, sessionsEnded: 1 });
    for (const stream of streams) await stream.done;
    expect((await download(target, 1_000)).complete).toBe(false);
  });

  test('access given again after a cut works, with another credential only that one', async () => {
    const access = newAccess();
    await engine.start([access]);
    const target = await clientOf(access);
    expect((await download(target, 1_000)).complete).toBe(true);
    await engine.cut([access.subscriptionId], noop);
    await engine.apply([access], noop);
    expect((await download(target, 1_000)).complete).toBe(true);
    const renewed: Access = { ...newAccess(), subscriptionId: access.subscriptionId };
    let read = 0;
    await engine.apply([renewed], async () => void (read += 1));
    expect(read).toBe(1);
    expect((await download(target, 1_000)).complete).toBe(false);
    expect((await download(await clientOf(renewed), 1_000)).complete).toBe(true);
    expect((await countersOf(access)).down).toBe(3_000n);
    expect((await engine.readBack()).admitted.get(access.subscriptionId)?.xray).toEqual(renewed.xray);
    await engine.apply([renewed], async () => void (read += 1));
    expect(read).toBe(1);
  });

  test('what Xray could not take, or would take wrongly, is refused and Xray lives on [V32]', async () => {
    const access = newAccess();
    await engine.start([access]);
    const before = await engine.health();
    const bad: Access[] = [
      { ...access, xray: { vlessId: 'typo', flow: '' } },
      { ...access, xray: { vlessId: randomUUID().toUpperCase(), flow: '' } },
      { ...access, xray: { vlessId: randomUUID(), flow: 'xtls-rprx-vision' } },
      { ...access, subscriptionId: 'x' as SubscriptionId },
      { ...access, subscriptionId: `${access.subscriptionId}>>>traffic` as SubscriptionId },
    ];
    for (const access of bad) {
      expect(() => engine.validate(access)).toThrow(expect.objectContaining({ code: 'invalid_input' }));
      await expect(engine.apply([access], noop)).rejects.toMatchObject({ code: 'invalid_input' });
    }
    // Differs from the admitted one only where Xray does not look.
    const id = access.xray?.vlessId ?? '';
    const twin: Access = {
      ...newAccess(),
      xray: { vlessId: `${id.slice(0, 14)}abcd${id.slice(18)}`, flow: '' },
    };
    await expect(engine.apply([twin], noop)).rejects.toMatchObject({ code: 'invalid_input' });
    await expect(engine.cut(['regexp:.*' as SubscriptionId], noop)).rejects.toMatchObject({
      code: 'invalid_input',
    });
    expect(await engine.health()).toEqual(before);
    expect([...(await engine.readBack()).admitted.values()]).toEqual([access]);
  });

  test('customers do not reach private addresses, except allowed ones', async () => {
    const access = newAccess();
    await engine.start([access]);
    const target = await clientOf(access);
    expect((await download(target, 1_000)).complete).toBe(true);
    const hidden = await startOrigin({ host: '127.0.0.2' });
    const other = { ...target, originHost: '127.0.0.2', originPort: hidden.port };
    expect((await download(other, 1_000)).complete).toBe(false);
    expect(hidden.connections).toEqual([]);
    await hidden.close();
  });

  test('a name does not lead around the block', async () => {
    options = { ...options, allowEgress: [] };
    engine = new XrayEngine(options);
    const access = newAccess();
    await engine.start([access]);
    const target = await clientOf(access);
    expect((await download({ ...target, originHost: 'localhost' }, 1_000)).complete).toBe(false);
    expect((await download(target, 1_000)).complete).toBe(false);
    expect(origin.connections).toEqual([]);
  });

  test('an agent killed with -9 leaves Xray running, and the next one adopts it with its counters and owners', async () => {
    const [access, neighbour, late] = [newAccess(), newAccess(), newAccess()];
    const agent = await runAgent([access, neighbour, late]);
    const [boot] = (await processesOn(join(options.dir, 'config.json'))).map(bootOf);
    const mine = await openStream(await clientOf(access), 300_000);
    const beside = await openStream(await clientOf(neighbour), 300_000);
    agent.kill('SIGKILL');
    await once(agent, 'exit');
    // Lines written while no agent reads wait in the pipe.
    const unread = await openStream(await clientOf(late), 300_000);
    const received = mine.receivedBytes;
    await until(() => mine.receivedBytes > received + 50_000, 'bytes flow while no agent runs');
    const early = await engine.counters();
    expect(new Set(early.map(({ boot }) => boot))).toEqual(new Set([boot]));
    // The late one has lost his access meanwhile.
    await engine.start([access, neighbour]);
    expect((await engine.readBack()).admitted.size).toBe(2);
    if (canDestroySockets()) {
      expect((await unread.done).complete).toBe(false);
      const result = (await engine.cut([access.subscriptionId], noop)).get(access.subscriptionId);
      expect(result).toMatchObject({ ended: true, sessionsEnded: 1 });
      expect(result?.unattributed).toBeUndefined();
      await mine.done;
    }
    const before = beside.receivedBytes;
    await until(() => beside.receivedBytes > before + 100_000, 'the neighbour goes on');
    for (const stream of [mine, beside, unread]) stream.abort();
  });

  test.runIf(canDestroySockets())(
    'sockets whose owner nobody knows any more are ended by address, and that is said',
    async () => {
      const [access, neighbour] = [newAccess(), newAccess()];
      const agent = await runAgent([access, neighbour]);
      const mine = await openStream(await clientOf(access), 300_000);
      const target = await clientOf(neighbour);
      await openStream(target, 300_000);
      await until(
        () => readFileSync(join(options.dir, 'sockets'), 'utf8').split('\n').length === 3,
        'both are known',
      );
      agent.kill('SIGKILL');
      await once(agent, 'exit');
      rmSync(join(options.dir, 'sockets'));
      await engine.start([access, neighbour]);
      const result = (await engine.cut([access.subscriptionId], noop)).get(access.subscriptionId);
      expect(result).toMatchObject({ ended: true, sessionsEnded: 0, unattributed: 2 });
      await mine.done;
      expect((await download(target, 1_000)).complete).toBe(true);
    },
  );

  test.runIf(canDestroySockets())(
    'without CAP_NET_ADMIN a cut says what stays open, and is proven when nothing is',
    async () => {
      const [open, idle] = [newAccess(), newAccess()];
      const agent = await runAgent(
        [open, idle],
        ['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin'],
      );
      const target = await clientOf(open, 0, 8);
      const stream = await openStream(target, 300_000);
      const answer = await ask(agent, [open.subscriptionId, idle.subscriptionId]);
      const results = JSON.parse(answer) as Record<string, CutResult>;
      expect(results[idle.subscriptionId]).toMatchObject({ ended: true, sessionsEnded: 0, reason: '' });
      expect(results[open.subscriptionId]?.ended).toBe(false);
      expect(results[open.subscriptionId]?.reason).toMatch(/1 connections? .*CAP_NET_ADMIN/);
      // The blocking rule stays while he may open new streams in his open mux session.
      expect((await download(target, 1_000)).complete).toBe(false);
      expect(stream.open).toBe(true);
      await clients.pop()?.stop();
      await stream.done;
      const again = JSON.parse(await ask(agent, [open.subscriptionId])) as Record<string, CutResult>;
      expect(again[open.subscriptionId]).toMatchObject({ ended: true, reason: '' });
      agent.kill('SIGKILL');
      await once(agent, 'exit');
    },
  );

  test('an Xray killed with -9 is noticed at once, started again, and counts anew under another boot', async () => {
    const access = newAccess();
    await engine.start([access]);
    const target = await clientOf(access);
    await download(target, 10_000);
    const before = await countersOf(access);
    const died = new Promise<number>((resolve) => engine.onDied(() => resolve(performance.now())));
    const [life] = await processesOn(join(options.dir, 'config.json'));
    const killedAt = performance.now();
    process.kill(life?.pid ?? 0, 'SIGKILL');
    const noticedMs = (await died) - killedAt;
    expect(noticedMs).toBeLessThan(250);
    await expect(engine.counters()).rejects.toMatchObject({ code: 'unavailable' });
    expect(await engine.health()).toMatchObject({ running: false });
    expect((await engine.health()).problem).not.toBe('');
    await engine.start([access]);
    expect(await engine.health()).toEqual({ running: true, version: '26.3.27', problem: '' });
    expect((await download(target, 20_000)).complete).toBe(true);
    const after = await countersOf(access);
    expect(after.boot).not.toBe(before.boot);
    expect(after.down).toBe(20_000n);
    console.log(`death noticed after ${noticedMs.toFixed(1)} ms`);
  });

  test('a second driver, a taken port, a leftover process: none leads to two Xrays', async () => {
    const access = newAccess();
    await engine.start([access]);
    const second = new XrayEngine(options);
    await expect(second.start([access])).rejects.toMatchObject({ code: 'conflict' });
    const elsewhere = new XrayEngine({ ...options, dir: join(dir, 'other') });
    await expect(elsewhere.start([access])).rejects.toMatchObject({ code: 'conflict' });
    expect((await elsewhere.health()).problem).toMatch(/port \d+ is in use by xray/);
    // Another static configuration in the same directory: the old process goes, the new one takes over.
    await engine.detach();
    const changed = new XrayEngine({ ...options, allowEgress: [] });
    await changed.start([access]);
    expect((await processesOn(join(options.dir, 'config.json'))).length).toBe(1);
    await changed.detach();
  });

  test('what lies on disk is for the owner only, and names no destination [R1-27]', async () => {
    const access = newAccess();
    await engine.start([access]);
    await download(await clientOf(access), 1_000);
    await until(
      () =>
        existsSync(join(options.dir, 'sockets')) &&
        readFileSync(join(options.dir, 'sockets'), 'utf8').includes(access.subscriptionId),
      'the owner is kept',
    );
    expect(statSync(options.dir).mode & 0o777).toBe(0o700);
    for (const name of ['config.json', 'api.sock', 'access.fifo', 'sockets', 'pid.json', 'output.log']) {
      expect([name, statSync(join(options.dir, name)).mode & 0o777]).toEqual([name, 0o600]);
    }
    expect(statSync(join(options.dir, 'access.fifo')).isFIFO()).toBe(true);
    for (const name of ['sockets', 'output.log']) {
      expect(readFileSync(join(options.dir, name), 'utf8')).not.toContain(`:${origin.port}`);
    }
  });

  test.runIf(process.getuid?.() === 0)(
    'another user of the machine reaches neither the API nor what lies beside it (as root) [R1-27]',
    async () => {
      await engine.start([newAccess()]);
      // Begun as root, since another user need not reach the program itself (a clone under /root).
      const connect = (uid: number): string => {
        const script = `process.setgroups([]); process.setgid(${uid}); process.setuid(${uid});
          const s = require('node:net').connect(process.argv[1]);
          s.on('connect', () => { console.log('connected'); s.destroy(); }); s.on('error', (e) => console.log(e.code));`;
        const { stdout } = spawnSync(process.execPath, ['-e', script, join(options.dir, 'api.sock')], {
          ...{ cwd: '/', encoding: 'utf8' },
        });
        return stdout.trim();
      };
      expect(connect(0)).toBe('connected');
      expect(connect(65_534)).toBe('EACCES');
      // Not by the directory alone: the socket itself is its owner's.
      chmodSync(dir, 0o755);
      chmodSync(options.dir, 0o755);
      expect(connect(65_534)).toBe('EACCES');
      chmodSync(options.dir, 0o700);
    },
  );

  test.runIf(canDestroySockets())('many customers are cut as one set', async () => {
    const accesses = Array.from({ length: 300 }, newAccess);
    await engine.start(accesses.slice(0, 100));
    const startedAt = performance.now();
    await engine.apply(accesses, noop);
    const addedMs = performance.now() - startedAt;
    const some = accesses.slice(0, 3);
    const streams = await Promise.all(
      some.map(async (access) => openStream(await clientOf(access), 100_000)),
    );
    const results = await engine.cut(
      accesses.map(({ subscriptionId }) => subscriptionId),
      noop,
    );
    expect([...results.values()].filter(({ ended }) => ended).length).toBe(300);
    expect([...results.values()].reduce((sum, { sessionsEnded }) => sum + sessionsEnded, 0)).toBe(3);
    for (const stream of streams) await stream.done;
    expect((await engine.readBack()).admitted.size).toBe(0);
    const one = [...results.values()][0];
    console.log(
      `200 added in ${addedMs.toFixed(0)} ms; 300 cut in ${one?.cutMs.toFixed(0)} ms, proven in ${one?.provenMs.toFixed(0)} ms`,
    );
  });

  /**
   * The driver in a process of its own, to be killed: Node runs the sources as they are. It cuts the ids of each
   * further line and answers with the results. `prefix` is an argv that runs the rest of it.
   */
  async function runAgent(desired: Access[], prefix: string[] = []): Promise<ChildProcess> {
    const hook = `import { registerHooks } from 'node:module';
      registerHooks({ resolve(specifier, context, next) {
        try { return next(specifier, context); } catch (error) {
          if (!specifier.endsWith('.js')) throw error;
          return next(specifier.slice(0, -3) + '.ts', context);
        } } });`;
    const main = `import { createInterface } from 'node:readline';
      import { XrayEngine } from ${JSON.stringify(fileURLToPath(new URL('./xray.engine.ts', import.meta.url)))};
      const clock = { now: () => Date.now(), monotonic: () => performance.now() };
      const quiet = { info() {}, warn() {}, error() {} };
      const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
      const input = JSON.parse((await lines.next()).value);
      const engine = new XrayEngine({ ...input.options, clock, log: quiet });
      await engine.start(input.desired);
      console.log('started');
      for await (const line of lines) {
        console.log(JSON.stringify(Object.fromEntries(await engine.cut(JSON.parse(line), async () => {}))));
      }`;
    const hookUrl = `data:text/javascript,${encodeURIComponent(hook)}`;
    const node = [process.execPath, '-C', 'source', '--import', hookUrl, '--input-type=module', '-e', main];
    const [file = '', ...args] = [...prefix, ...node];
    const cwd = fileURLToPath(new URL('.', import.meta.url));
    const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'], cwd });
    children.push(child);
    await ask(child, { options: { ...options, clock: null, log: null }, desired });
    return child;
  }

  /** Writes a line to the agent process and returns the line it answers with. */
  async function ask(child: ChildProcess, request: unknown): Promise<string> {
    if (child.stdout === null || child.stdin === null) throw new Error('no pipes');
    child.stdin.write(`${JSON.stringify(request)}\n`);
    const ended = once(child, 'exit').then(() => Promise.reject(new Error('the agent process ended')));
    const [data] = (await Promise.race([once(child.stdout, 'data'), ended])) as [Buffer];
    ended.catch(() => undefined);
    return data.toString();
  }
});
