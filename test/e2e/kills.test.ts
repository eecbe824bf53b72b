// Exact accounting while everything dies: kill -9 of each process at seeded moments, in every gap between two steps
// (gaps.ts says how each is hit and proven), while customers go on moving bytes through a real Xray and, as root, a real
// WireGuard. At the end the engines' own counters, the ledger and the usage counters are equal to the byte, the chain
// verifies, nothing was marked as lost, and no customer's stream broke.
// PENSTOCK_TEST_SEED chooses the moments; a failure names its seed.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { verifyLedger } from './chain.js';
import { Gaps, HOLD_SETTINGS, seeded } from './gaps.js';
import { Pump } from './pump.js';
import { isRoot } from './root.js';
import { until } from './until.js';
import { World, type Customer, type NodeOfWorld } from './world.js';

const SEED = Number(process.env['PENSTOCK_TEST_SEED'] ?? 20260101);
const WINDOW_MS = 1000;
/** Kills that must fall into each gap, and how many more may be tried for it. */
const LANDINGS_MIN = 3;
const EXTRA_MAX = 8;
/** What the customers move while the process is down. */
const DOWN_BYTES = 40_000;
/** The longest pause of a node that looks for the scheduler, and the order's own time. */
const RECONNECT_MS_MAX = 40_000;
/** The deadline of an end by signal, and a busy machine's second. */
const ENDED_MS_MAX = 11_000;

let world: World;
let node: NodeOfWorld;
let gaps: Gaps;
let pump: Pump;

beforeAll(async () => {
  world = await World.start({ postgresSettings: HOLD_SETTINGS });
  const engines = isRoot ? (['xray', 'wireguard'] as const) : (['xray'] as const);
  node = await world.addNode('one', engines, { WINDOW_MS: String(WINDOW_MS) });
  gaps = new Gaps(world, node);
  pump = await Pump.make(world, node, isRoot);
});
afterAll(() => world?.destroy());

/** A way to meet one gap: calls `kill` inside it and says where the kill landed; null where it missed. */
type Aim = (kill: () => Promise<void>, random: () => number) => Promise<Landing>;
interface Landing {
  gap: string | null;
  /** What was held back and must be let go once the process is back. */
  release?: () => Promise<void>;
}

const aims = {
  // A window begins with a record and the engines are read once a second: near the window's end a read was taken that
  // no record holds yet.
  readToFsync: async (kill, random) => {
    await gaps.journalGrows();
    const sealed = gaps.journalSeq();
    await moment(WINDOW_MS * (0.8 + 0.15 * random()));
    await kill();
    return { gap: gaps.journalSeq() === sealed ? 'read → fsync' : null };
  },
  // At the first sight of a record. The frame is on disk and does not get to the ledger while its agent is dead.
  fsyncToSend: async (kill) => {
    await gaps.journalGrows();
    await kill();
    const head = await gaps.standsStill();
    return { gap: gaps.journalSeq() > head.seq ? 'fsync → send' : null };
  },
  sendToCommit: async (kill) => {
    const release = await gaps.holdAppend();
    await kill();
    return { gap: 'send → commit', release };
  },
  // The commit is durable and its answer held back, so nobody can have acknowledged it.
  commitToAcknowledge: async (kill, random) => {
    const { seq } = await gaps.head();
    await gaps.holdCommit();
    await moment(20 * random());
    await kill();
    const release = async (): Promise<void> => {
      await gaps.releaseCommits();
      await until(async () => (await gaps.head()).seq > seq, 'the commit is there');
    };
    return { gap: 'commit → acknowledge', release };
  },
  appendToFlush: async (kill) => {
    await gaps.appended();
    await kill();
    return { gap: 'append → flush' };
  },
} satisfies Record<string, Aim>;

/** The seeded part of a moment: how long after what was seen the kill falls. */
function moment(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Kills in turn in each gap; the customers go on, the process comes back, the ledger moves on. */
async function killsUnderTraffic(name: string, times: number, turns: readonly Aim[]): Promise<void> {
  const random = seeded(SEED);
  const landed = turns.map(() => 0);
  const names = new Set<string>();
  const one = async (index: number): Promise<void> => {
    const { gap, release } = await (turns[index] as Aim)(() => world.stack.kill(name), random);
    await pump.move(DOWN_BYTES);
    if (name !== 'postgresql') await release?.();
    await world.stack.restart(name);
    if (name === 'postgresql') await release?.();
    await flows();
    if (gap === null) return;
    names.add(gap);
    landed[index] = (landed[index] ?? 0) + 1;
  };
  await underTraffic(async () => {
    for (let turn = 0; turn < times; turn++) await one(turn % turns.length);
    // A busy machine lets some kills fall beside their gap.
    for (let extra = 0; extra < EXTRA_MAX; extra++) {
      const index = landed.findIndex((count) => count < LANDINGS_MIN);
      if (index >= 0) await one(index);
    }
  });
  console.log(`${name}, seed ${SEED}: ${[...names].join(', ')}: ${landed.join(', ')} kills`);
  for (const count of landed) expect(count).toBeGreaterThanOrEqual(LANDINGS_MIN);
}

/** Traffic, `faults`, quiet; then every equation has to hold. */
async function underTraffic(faults: () => Promise<void>): Promise<void> {
  await pump.start();
  await flows();
  const before = await gaps.head();
  try {
    await faults();
  } finally {
    await pump.stop();
  }
  const { xray } = await pump.settled();
  expect(xray.up > 0n && xray.down > 0n).toBe(true);
  const [report] = await verifyLedger(world);
  const head = await gaps.head();
  // Never a new epoch, never a gap, never a loss: the journal went on where the ledger was, each time.
  expect(report).toMatchObject({ gaps: [], marks: [], problem: null, frames: Number(head.seq) });
  expect(head.epoch).toBe(1);
  expect(head.seq > before.seq).toBe(true);
  for (const table of ['loss_mark', 'usage_quarantine']) {
    expect((await world.sql.query(`SELECT 1 FROM ${table}`)).rows, table).toEqual([]);
  }
}

/** Waits until frames that are sealed from now on reach the ledger. */
async function flows(): Promise<void> {
  const { seq } = await gaps.head();
  await until(async () => (await gaps.head()).seq > seq, 'frames reach the ledger');
}

test(
  'an agent killed with -9 under traffic loses nothing (20 seeded kills) [V47]',
  { timeout: 150_000 },
  async () => {
    const { readToFsync, fsyncToSend, commitToAcknowledge, appendToFlush } = aims;
    await killsUnderTraffic(node.process, 20, [readToFsync, fsyncToSend, commitToAcknowledge, appendToFlush]);
  },
);

test(
  'a collector killed with -9 under traffic loses nothing (10 seeded kills)',
  { timeout: 90_000 },
  async () => {
    const { sendToCommit, commitToAcknowledge, appendToFlush } = aims;
    await killsUnderTraffic('collector', 10, [sendToCommit, commitToAcknowledge, appendToFlush]);
  },
);

test(
  'PostgreSQL killed with -9 under traffic loses nothing (10 seeded kills)',
  { timeout: 120_000 },
  async () => {
    const { sendToCommit, commitToAcknowledge, appendToFlush } = aims;
    await killsUnderTraffic('postgresql', 10, [sendToCommit, commitToAcknowledge, appendToFlush]);
  },
);

test(
  'a scheduler killed with -9 under traffic loses neither bytes nor orders (10 seeded kills)',
  { timeout: 120_000 },
  async () => {
    const edited = await world.addCustomer(null, ['xray']);
    const random = seeded(SEED);
    const agent = world.stack.process(node.process);
    /** Each kills the scheduler around one edit. */
    const aimedAt = [
      // cause → revision: the edit is made while it is down.
      async (edit: () => Promise<void>) => {
        await world.stack.kill('scheduler');
        await edit();
      },
      // revision → acknowledgement: the node has not answered yet.
      async (edit: () => Promise<void>) => {
        await agent.kill('SIGSTOP');
        const { last } = await revisions(edited);
        await edit();
        await until(async () => (await revisions(edited)).last > last, 'the revision is written');
        await world.stack.kill('scheduler');
        await agent.kill('SIGCONT');
      },
      // acknowledgement → stored, and whatever lies around it.
      async (edit: () => Promise<void>) => {
        await edit();
        await moment(150 * random());
        await world.stack.kill('scheduler');
      },
    ];
    await underTraffic(async () => {
      for (let turn = 0; turn < 10; turn++) {
        const adminState = turn % 2 === 0 ? 'disabled' : 'active';
        await aimedAt[turn % aimedAt.length]?.(() => world.update(edited, { adminState }));
        await pump.move(DOWN_BYTES);
        await world.stack.restart('scheduler');
        // The node may have begun to wait longer between its tries, never longer than this.
        await world.confirmed(edited, adminState === 'active' ? 'grant' : 'cut', RECONNECT_MS_MAX);
      }
    });
    // One order an edit, each confirmed: none lost, none given twice.
    expect(await revisions(edited)).toMatchObject({ orders: 11n, confirmed: 11n });
  },
);

test(
  'each process told to end by SIGTERM under traffic ends in time and loses nothing (4 rounds) [R1-24]',
  { timeout: 150_000 },
  async () => {
    const random = seeded(SEED);
    /** Whether the agent's end is the engines' end, too: in development it is, in production customers go on. */
    const stopEngines = async (value: '0' | '1'): Promise<void> => {
      await world.stack.kill(node.process);
      await world.stack.restart(node.process, { AGENT_STOP_ENGINES: value });
      await flows();
    };
    await underTraffic(async () => {
      await stopEngines('0');
      for (let turn = 0; turn < 4; turn++) {
        for (const name of ['collector', 'scheduler', 'control-api', node.process]) {
          await moment(WINDOW_MS * random());
          const asked = performance.now();
          await world.stack.process(name).stop();
          // Past its deadline a process ends itself; past the supervisor's it would have been killed.
          expect(performance.now() - asked, name).toBeLessThan(ENDED_MS_MAX);
          await pump.move(DOWN_BYTES);
          await world.stack.restart(name);
          await flows();
        }
      }
      await stopEngines('1');
    });
  },
);

async function revisions({
  subscriptionId,
}: Customer): Promise<{ last: bigint; orders: bigint; confirmed: bigint }> {
  const { rows } = await world.sql.query<{ last: bigint; orders: bigint; confirmed: bigint }>(
    `SELECT coalesce(max(revision), 0) AS last, count(*) AS orders,
            count(*) FILTER (WHERE state = 'confirmed') AS confirmed
     FROM enforcement WHERE subscription_id = $1`,
    [subscriptionId],
  );
  return rows[0] ?? { last: 0n, orders: 0n, confirmed: 0n };
}

test(
  'all three at once killed with -9 under traffic lose nothing (3 times, once with the agent)',
  { timeout: 90_000 },
  async () => {
    const random = seeded(SEED);
    await underTraffic(async () => {
      for (let turn = 0; turn < 3; turn++) {
        const names = ['collector', 'scheduler', 'postgresql', ...(turn === 1 ? [node.process] : [])];
        await gaps.journalGrows();
        await moment(WINDOW_MS * random());
        await Promise.all(names.map((name) => world.stack.kill(name)));
        await pump.move(DOWN_BYTES);
        await world.stack.restart('postgresql');
        await Promise.all(
          names.filter((name) => name !== 'postgresql').map((name) => world.stack.restart(name)),
        );
        await flows();
      }
    });
  },
);
