// `penstock events`: a line an event, whole through a lost connection and from run to run, and an end without noise.
import { createServer, connect, type Server, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { FakeClock } from '@penstock/domain/clock';
import { anHourLater, withPassword, type Login } from '../../control-api/test/sign-in.js';
import { createWorld, type World } from '../../control-api/test/world.js';
import { Penstock, type Running } from './penstock.js';

/** Stands between the command and the API; connections can be cut. */
class Wire {
  readonly #sockets = new Set<Socket>();
  readonly #server: Server;

  constructor(port: number) {
    this.#server = createServer((near) => {
      const far = connect(port, '127.0.0.1');
      for (const [one, other] of [
        [near, far],
        [far, near],
      ] as const) {
        this.#sockets.add(one);
        one.on('error', () => other.destroy());
        one.on('close', () => other.destroy());
        one.pipe(other);
      }
    });
  }

  async listen(): Promise<string> {
    await new Promise<void>((done) => this.#server.listen(0, '127.0.0.1', done));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  close(): void {
    this.#server.close();
    this.cut();
  }
}

describe('penstock events', () => {
  const clock = new FakeClock(Date.now());
  let world: World;
  let owner: Login;
  let wire: Wire;
  let penstock: Penstock;
  let count = 0;

  beforeAll(async () => {
    world = await createWorld({ clock });
    owner = await withPassword(world, await world.tenant('own'), 'owner');
    wire = new Wire(Number(new URL(world.url).port));
    penstock = new Penstock(await wire.listen());
    expect((await penstock.run(['login', '--email', owner.email], owner.password)).code).toBe(0);
  });
  afterAll(async () => {
    wire.close();
    penstock.remove();
    await world.close();
  });

  async function makeGroup(): Promise<string> {
    const body = { name: `group ${count++}` };
    const answer = await world.ask('POST', '/api/v1/node-groups', { as: owner, body });
    expect(answer.status, answer.text).toBe(201);
    return String(answer.body['nodeGroupId']);
  }

  /** Makes groups until the command tells of one: from then on its stream stands. */
  async function standing(running: Running): Promise<string> {
    const made: string[] = [];
    let told = '';
    const timer = setInterval(() => void makeGroup().then((id) => made.push(id)), 200);
    await running.until((all) => (told = made.find((id) => all.includes(id)) ?? '') !== '');
    clearInterval(timer);
    return told;
  }

  const idsIn = (out: string): string[] =>
    [...out.matchAll(/"?node_group\.create"?[^\n]*?([0-9a-f]{8}-[0-9a-f-]{27})/g)].map(
      (match) => match[1] ?? '',
    );

  async function interrupted(running: Running): Promise<string> {
    running.child.kill('SIGINT');
    const { code, out, err } = await running.ended;
    expect(code).toBe(0);
    expect(err).toMatch(/^go on with: penstock events --after \d+-\d+-\d+\n$/);
    expect(out.endsWith('\n')).toBe(true);
    return /--after (\S+)/.exec(err)?.[1] ?? '';
  }

  test('tells a line each, ends cleanly on Ctrl-C, and the next run goes on behind it', async () => {
    const first = penstock.start(['events']);
    await standing(first);
    const after = await interrupted(first);
    const missed = [await makeGroup(), await makeGroup()];
    const second = penstock.start(['--json', 'events', '--after', after]);
    await second.until((all) => missed.every((id) => all.includes(id)));
    await interrupted(second);
    const lines = second.out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(lines.every((line) => typeof line['id'] === 'string' && typeof line['type'] === 'string')).toBe(
      true,
    );
    const told = lines.map((line) => line['entityId']).filter((id) => missed.includes(String(id)));
    expect(told).toEqual(missed);
    for (const id of missed) expect(first.out).not.toContain(id);
  });

  test('a connection that breaks costs no event and repeats none', async () => {
    const running = penstock.start(['events', '--type', 'node_group.*']);
    await standing(running);
    const expected: string[] = [];
    for (let i = 0; i < 3; i++) {
      wire.cut();
      expected.push(await makeGroup());
      await running.until((all) => all.includes(expected.at(-1) ?? ''));
    }
    await interrupted(running);
    const ids = idsIn(running.out);
    expect(new Set(ids).size).toBe(ids.length);
    expect(ids.filter((id) => expected.includes(id))).toEqual(expected);
  });

  test('it outlives its access token and misses nothing', async () => {
    const running = penstock.start(['events']);
    await standing(running);
    const before = await makeGroup();
    const kept = penstock.sessions();
    await anHourLater(world, clock, owner);
    const after = await makeGroup();
    await expect.poll(() => penstock.sessions(), { timeout: 10_000 }).not.toBe(kept);
    await running.until((all) => [before, after].every((id) => all.includes(id)));
    const later = await makeGroup();
    await running.until((all) => all.includes(later));
    await interrupted(running);
    const ids = idsIn(running.out);
    expect(ids.slice(-3)).toEqual([before, after, later]);
    expect(new Set(ids).size).toBe(ids.length);
  });

  test('what is refused at its beginning is one sentence', async () => {
    const wrong = await penstock.run(['events', '--after', 'nonsense']);
    expect(wrong.code).toBe(1);
    expect(wrong.err).toMatch(/^penstock: after: .+\n$/);
    const stranger = new Penstock(world.url);
    expect(await stranger.run(['events'])).toMatchObject({
      code: 1,
      err: 'penstock: sign in first: ./penstock login\n',
    });
    stranger.remove();
  });

  test('a reader who loses his place is told so and is let go', async () => {
    const person = await withPassword(world, owner.tenantId, 'operator');
    const reader = new Penstock(world.url);
    await reader.run(['login', '--email', person.email], person.password);
    const running = reader.start(['events']);
    await standing(running);
    const gone = await world.ask('DELETE', `/api/v1/members/${person.accountId}`, { as: owner });
    expect(gone.status, gone.text).toBe(204);
    const { code, err } = await running.ended;
    expect(code).toBe(1);
    expect(err).toMatch(/penstock: .+\n$/);
    reader.remove();
  });
});
