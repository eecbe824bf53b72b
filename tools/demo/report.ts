// The last page of a demo: bytes at client, engine and ledger side by side, the times of the cut, the neighbour, and
// every check with its outcome. Pure: what was seen → lines. Called by main.ts.
import { customerTitle, ENGINE_NAMES, sum } from './board.js';
import type { Bytes } from './figures.js';
import { COLUMNS, durationText, grouped, row, type Paint } from './text.js';
import { passed, type Account, type Check, type Course, type Topic } from './verdict.js';

export interface Story {
  course: Course;
  /** The API's own words, "confirmed on 1 of 1 nodes", and its milliseconds. */
  apiState: string;
  apiMs: number | null;
  /** A's stream rates together, about. */
  crosserRate: number;
}

export function reportLines(story: Story, checks: readonly Check[], paint: Paint): string[] {
  const { course } = story;
  return [
    '',
    paint('bold', row('The bytes', [...COLUMNS])),
    ...['A', 'B'].flatMap((label) => accountLines(label, course.accounts, paint)),
    ...footnotes(course.accounts).map((text) => paint('dim', `  ${text}`)),
    '',
    ...timeLines(story, paint),
    '',
    ...neighbourLines(course, paint),
    '',
    ...checkLines(checks, paint),
  ];
}

function footnotes(accounts: readonly Account[]): string[] {
  if (!accounts.some(({ engine }) => engine === 'wireguard')) return [];
  return [
    'Xray counts payload; WireGuard encrypted packets, and so does the customer’s device.',
    ...(accounts.some(({ counted }) => counted === null)
      ? ['≥ the last reading before the peer was removed; its counter went with it.']
      : []),
  ];
}

function accountLines(label: string, accounts: readonly Account[], paint: Paint): string[] {
  const lines = [`  ${customerTitle(label)}`];
  for (const account of accounts.filter((one) => one.label === label)) {
    const { client, counted, lastSeen, ledger } = account;
    const engine = counted === null ? `≥ ${grouped(sum(lastSeen))}` : grouped(sum(counted));
    const figures = [grouped(sum(client)), engine, grouped(sum(ledger))];
    lines.push(row(`  ${ENGINE_NAMES[account.engine]}`, figures, remark(account, paint)));
  }
  return lines;
}

function remark({ client, counted, ledger, cut }: Account, paint: Paint): string {
  const missing = ledger.down - client.down;
  const unsent = client.up - ledger.up;
  if (counted !== null && !same(counted, ledger)) {
    return paint(['bold', 'red'], `engine and ledger differ by ${grouped(sum(counted) - sum(ledger))}`);
  }
  if (same(client, ledger)) return paint('green', counted === null ? '= to the byte' : '= = to the byte');
  const parts = counted === null ? [] : [paint('green', 'engine = ledger')];
  if (missing !== 0n) parts.push(`${grouped(missing)} down ${cut ? 'in flight' : 'lost'}`);
  if (unsent !== 0n) parts.push(`${grouped(unsent)} up ${cut ? 'after the cut' : 'lost'}`);
  return parts.join(', ');
}

function timeLines({ course, apiState, apiMs, crosserRate }: Story, paint: Paint): string[] {
  const { canEndSessions, order, endedAfterMs, quotaBytes, used } = course;
  const lines = [
    paint('bold', '  The cut') + paint('dim', '   from the byte that crossed A’s quota, on A’s own clock'),
  ];
  for (const [engine, ms] of endedAfterMs) {
    const what =
      engine === 'xray' ? 'Xray: his open connection ended' : 'WireGuard: the last byte came through';
    lines.push(timeLine(what, ms === null ? 'not ended' : `+ ${durationText(ms)}`));
  }
  if (order !== null) {
    lines.push(timeLine('order written, after the booking', `+ ${durationText(order.orderedMs)}`));
    if (order.state === 'confirmed' && order.cutUs !== null && order.provenUs !== null) {
      const sessions = `${order.sessionsEnded ?? 0} session${order.sessionsEnded === 1 ? '' : 's'} ended`;
      lines.push(timeLine('node: order received → cut', microseconds(order.cutUs)));
      lines.push(timeLine('node: order received → proven', `${microseconds(order.provenUs)}, ${sessions}`));
    }
    if (order.state !== 'confirmed') lines.push(`    node: ${order.state}, ${order.reason}`);
  }
  lines.push(timeLine('API', `“${apiState}”${apiMs === null ? '' : `, ${durationText(apiMs)}`}`));
  const over = (used[0]?.used ?? 0n) - quotaBytes;
  const percent = ((Number(over) / Number(quotaBytes)) * 100).toFixed(1);
  lines.push(timeLine('quota', `${grouped(quotaBytes)} bytes`));
  if (canEndSessions) {
    const seconds = (Number(over) / crosserRate).toFixed(2);
    lines.push(timeLine('overshoot', `${grouped(over)} bytes (${percent} %), ${seconds} s of his streams`));
    lines.push(
      paint('dim', '  Counters are read and sealed every second here: what flows until then is overshoot.'),
    );
  } else {
    lines.push(timeLine('overshoot', `${grouped(over)} bytes (${percent} %), his open session went on`));
  }
  return lines;
}

function neighbourLines({ neighbour }: Course, paint: Paint): string[] {
  const lines = [paint('bold', '  The neighbour')];
  for (const { engine, phase, longestPauseMs } of neighbour) {
    const open = phase === 'streams' ? 'still open' : 'ENDED';
    lines.push(timeLine(`${ENGINE_NAMES[engine]}: ${open}, longest pause`, durationText(longestPauseMs)));
  }
  return lines;
}

const TOPICS: Record<Topic, string> = {
  bytes: 'ledger = engine; nothing reached a client unbooked',
  quota: 'the quota’s counter = the sum of the ledger; A crossed it and is limited',
  cut: 'the node proved it, the session ended, a new one is refused',
  neighbour: 'his streams went on, on the same connections, without a pause of 1 s',
};

/** One line a topic while all of it holds; the single checks where something fails or cannot be shown. */
function checkLines(checks: readonly Check[], paint: Paint): string[] {
  const lines: string[] = [];
  for (const [topic, text] of Object.entries(TOPICS)) {
    const own = checks.filter((check) => check.topic === topic);
    const good = own.filter(({ outcome }) => outcome === 'holds');
    if (good.length === own.length) {
      lines.push(`  ${paint('green', '✔')} ${`${topic} ${good.length}/${own.length}`.padEnd(14)} ${text}`);
      continue;
    }
    for (const { outcome, text: single } of own) {
      const start = {
        holds: paint('green', '✔'),
        fails: paint('red', '✘'),
        'not shown': paint('yellow', '–'),
      }[outcome];
      const words = outcome === 'not shown' ? `not shown: ${single}` : single;
      lines.push(
        `  ${start} ${topic.padEnd(14)} ${outcome === 'fails' ? paint(['bold', 'red'], words) : words}`,
      );
    }
  }
  const shown = checks.filter(({ outcome }) => outcome !== 'not shown');
  const good = shown.filter(({ outcome }) => outcome === 'holds').length;
  const left = checks.length - shown.length;
  const total = `  ${good} of ${shown.length} hold${left > 0 ? `, ${left} not shown` : ''}`;
  return [...lines, '', paint(['bold', passed(checks) ? 'green' : 'red'], total)];
}

function timeLine(what: string, value: string): string {
  return `    ${what.padEnd(40)} ${value}`;
}

function microseconds(us: number): string {
  return us < 10_000 ? `${(us / 1000).toFixed(1)} ms` : `${Math.round(us / 1000)} ms`;
}

function same(one: Bytes, other: Bytes): boolean {
  return one.up === other.up && one.down === other.down;
}
