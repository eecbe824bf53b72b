// The last page of a demo: bytes at client, engine and ledger side by side, the times of the cut, the neighbour, and
// every check with its outcome. Pure: what was seen → lines. Called by main.ts.
import { customerTitle, ENGINE_NAMES, sum } from './board.js';
import type { Bytes } from './figures.js';
import { COLUMNS, durationText, grouped, row, type Paint } from './text.js';
import { passed, type Account, type Check, type Course } from './verdict.js';

export interface Story {
  course: Course;
  /** The API's own words, "confirmed on 1 of 1 nodes", and its milliseconds. */
  apiState: string;
  apiMs: number | null;
  /** A's stream rates together, about. */
  crosserRate: number;
  notShown: readonly string[];
}

export function reportLines(story: Story, checks: readonly Check[], paint: Paint): string[] {
  const { course } = story;
  return [
    '',
    paint('bold', row('The bytes', [...COLUMNS])),
    ...['A', 'B'].flatMap((label) => accountLines(label, course.accounts, paint)),
    paint(
      'dim',
      '  Xray counts payload; WireGuard counts encrypted packets, compared with the customer’s own device.',
    ),
    '',
    ...timeLines(story, paint),
    '',
    ...neighbourLines(course, paint),
    '',
    ...checkLines(checks, paint),
    ...story.notShown.map((text) => `  ${paint('yellow', '– not shown here:')} ${text}`),
    '',
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
  if (same(client, ledger))
    return paint('green', counted === null ? '= to the byte; peer removed' : '= = to the byte');
  const parts = counted === null ? ['peer removed'] : [paint('green', 'engine = ledger')];
  if (missing !== 0n)
    parts.push(`${grouped(missing)} down ${cut ? 'in flight at the cut' : 'lost on the way'}`);
  if (unsent !== 0n) parts.push(`${grouped(unsent)} up sent in vain`);
  return parts.join('; ');
}

function timeLines({ course, apiState, apiMs, crosserRate }: Story, paint: Paint): string[] {
  const { order, endedAfterMs, quotaBytes, used } = course;
  const lines = [
    paint('bold', '  The cut') + paint('dim', '   from the byte that crossed A’s quota, on A’s own clock'),
  ];
  for (const [engine, ms] of endedAfterMs) {
    const what =
      engine === 'xray' ? 'Xray: the open connection ended' : 'WireGuard: the last byte came through';
    lines.push(timeLine(what, ms === null ? 'not ended' : `+ ${durationText(ms)}`));
  }
  if (order !== null) {
    lines.push(
      timeLine('order written, after the crossing was booked', `+ ${durationText(order.orderedMs)}`),
    );
    if (order.cutUs !== null) {
      lines.push(timeLine('node: order received → cut', microseconds(order.cutUs)));
    }
    if (order.provenUs !== null && order.state === 'confirmed') {
      const sessions = `${order.sessionsEnded ?? 0} session${order.sessionsEnded === 1 ? '' : 's'} ended`;
      lines.push(timeLine('node: order received → proven', `${microseconds(order.provenUs)}   ${sessions}`));
    }
    if (order.state !== 'confirmed') lines.push(timeLine(`node: ${order.state}`, order.reason));
  }
  lines.push(timeLine('API', `“${apiState}”${apiMs === null ? '' : `, ${durationText(apiMs)}`}`));
  const over = (used[0]?.used ?? 0n) - quotaBytes;
  const percent = ((Number(over) / Number(quotaBytes)) * 100).toFixed(1);
  const seconds = crosserRate > 0 ? `, ${(Number(over) / crosserRate).toFixed(2)} s of his stream` : '';
  lines.push(
    timeLine('overshoot', `${grouped(over)} bytes over ${grouped(quotaBytes)} (${percent} %${seconds})`),
  );
  lines.push(
    paint(
      'dim',
      '  Counters are read every second and sealed every second here, so a crossing is seen within about 1–2 s.',
    ),
  );
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

function checkLines(checks: readonly Check[], paint: Paint): string[] {
  const shown = checks.filter(({ outcome }) => outcome !== 'not shown');
  const good = shown.filter(({ outcome }) => outcome === 'holds').length;
  const lines = checks.map(({ outcome, text }) => {
    if (outcome === 'holds') return `  ${paint('green', '✔')} ${text}`;
    return outcome === 'fails'
      ? `  ${paint(['bold', 'red'], `✘ ${text}`)}`
      : `  ${paint('yellow', '–')} ${text}`;
  });
  const total = `  ${good} of ${shown.length} hold`;
  return [...lines, '', paint(['bold', passed(checks) ? 'green' : 'red'], total)];
}

function timeLine(what: string, value: string): string {
  return `    ${what.padEnd(46)} ${value}`;
}

function microseconds(us: number): string {
  return us < 10_000 ? `${(us / 1000).toFixed(1)} ms` : `${Math.round(us / 1000)} ms`;
}

function same(one: Bytes, other: Bytes): boolean {
  return one.up === other.up && one.down === other.down;
}
