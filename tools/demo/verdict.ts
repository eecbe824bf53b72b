// What must hold at the end of a demo, and whether it does. Pure: what was read and seen → a list of checks, each with
// the figures that decide it. Where this machine cannot show something the check is `not shown`, never `holds`.
// Called by main.ts; the exit code is made of it.
import type { Engine } from '@penstock/domain/terms';
import type { PathReport } from './client-lines.js';
import type { Booked, Bytes } from './figures.js';

/** A neighbour whose stream stood still for longer was disturbed. */
export const PAUSE_MS_MAX = 1_000;
/** The engine may have counted so much more than reached the customer: it was on its way when he was cut. */
export const IN_FLIGHT_BYTES_MAX = 1024n * 1024n;

export type Outcome = 'holds' | 'fails' | 'not shown';

export type Topic = 'bytes' | 'quota' | 'cut' | 'neighbour';

export interface Check {
  topic: Topic;
  outcome: Outcome;
  text: string;
}

/** One customer's bytes over one engine when nothing moves any more. */
export interface Account {
  label: string;
  engine: Engine;
  client: Bytes;
  /** Null: the engine forgot the peer, as it should. */
  counted: Bytes | null;
  /** The newest reading of ours. */
  lastSeen: Bytes;
  ledger: Bytes;
  /** His connection was cut while bytes were under way. */
  cut: boolean;
}

export interface Course {
  canEndSessions: boolean;
  quotaBytes: bigint;
  used: readonly { label: string; used: bigint; ledger: bigint; state: Booked['state'] }[];
  accounts: readonly Account[];
  order: Booked['order'];
  /** Milliseconds on A's clock from the byte that crossed his quota; null: his connection never ended. */
  endedAfterMs: ReadonlyMap<Engine, number | null>;
  /** Bytes that a new connection of A brought after the cut. */
  triedBytes: ReadonlyMap<Engine, number>;
  neighbour: readonly PathReport[];
}

export function judge(course: Course): Check[] {
  return [
    ...course.accounts.flatMap(accountChecks),
    ...usedChecks(course),
    ...cutChecks(course),
    ...neighbourChecks(course),
  ];
}

/** Nothing failed. What could not be shown does not fail a run: the report says it. */
export function passed(checks: readonly Check[]): boolean {
  return checks.every(({ outcome }) => outcome !== 'fails');
}

/**
 * Where the engine still shows its counter: ledger = engine, exactly. Where the peer was removed its counter is gone:
 * the ledger then holds at least our own last reading of it, and lies between what the customer's own device received
 * and sent. Both ways nothing reached a customer that was not booked, and nothing was booked that he did not send.
 */
export function accountChecks({ label, engine, client, counted, lastSeen, ledger, cut }: Account): Check[] {
  const name = `${label} over ${engine === 'xray' ? 'Xray' : 'WireGuard'}`;
  const missing = ledger.down - client.down;
  const checks: Check[] = [];
  if (counted !== null) {
    const equal = counted.up === ledger.up && counted.down === ledger.down;
    checks.push(check('bytes', equal, `${name}: the ledger equals the engine, up and down`));
  } else {
    const covers = ledger.up >= lastSeen.up && ledger.down >= lastSeen.down;
    checks.push(check('bytes', covers, `${name}: the ledger has all that the removed peer ever showed us`));
  }
  const booked = missing >= 0n && missing <= IN_FLIGHT_BYTES_MAX && ledger.up <= client.up;
  checks.push(
    check(
      'bytes',
      booked,
      cut
        ? `${name}: no byte reached A unbooked, none was booked that he did not send`
        : `${name}: every byte at the client is booked`,
    ),
  );
  return checks;
}

function usedChecks({ used }: Course): Check[] {
  return used.map((one) =>
    check(
      'quota',
      one.used === one.ledger,
      `${one.label}: the counter of the quota equals the sum of the ledger`,
    ),
  );
}

function cutChecks({ canEndSessions, order, endedAfterMs, triedBytes, used, quotaBytes }: Course): Check[] {
  const crosser = used[0];
  const isCut = order?.kind === 'cut' && order.cause === 'crossing';
  const checks = [
    check(
      'quota',
      isCut && crosser?.state === 'limited' && crosser.used >= quotaBytes,
      'A crossed his quota, and is limited for that reason',
    ),
  ];
  if (canEndSessions) {
    checks.push(check('cut', isCut && order.state === 'confirmed', 'the node proved the cut'));
    for (const [engine, ms] of endedAfterMs) {
      const text =
        engine === 'xray' ? "A's open connection over Xray ended" : "A's WireGuard tunnel fell silent";
      checks.push(check('cut', ms !== null, text));
    }
  } else {
    const honest = isCut && order.state === 'unproven' && order.reason !== '';
    checks.push(check('cut', honest, 'the node did not claim a proof that it cannot have: “unproven”'));
    checks.push({
      topic: 'cut',
      outcome: 'not shown',
      text: "the end of A's open connection (needs CAP_NET_ADMIN)",
    });
  }
  for (const [engine, bytes] of triedBytes) {
    checks.push(
      check(
        'cut',
        bytes === 0,
        `A's new connection over ${engine === 'xray' ? 'Xray' : 'WireGuard'} was refused`,
      ),
    );
  }
  return checks;
}

function neighbourChecks({ neighbour, used }: Course): Check[] {
  const checks = neighbour.map((path) =>
    check(
      'neighbour',
      path.phase === 'streams' && path.longestPauseMs <= PAUSE_MS_MAX,
      `B's stream over ${path.engine === 'xray' ? 'Xray' : 'WireGuard'} went on, never paused for ${PAUSE_MS_MAX / 1000} s`,
    ),
  );
  checks.push(check('neighbour', used[1]?.state === 'active', 'B is active as before'));
  return checks;
}

function check(topic: Topic, holds: boolean, text: string): Check {
  return { topic, outcome: holds ? 'holds' : 'fails', text };
}
