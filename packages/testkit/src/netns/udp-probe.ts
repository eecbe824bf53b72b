// Numbered UDP packets at a steady rate, and the receiver that knows when the last one came: shows to the
// millisecond when a path ended. Times are CLOCK_MONOTONIC nanoseconds, the same in all processes of the machine
// (process.hrtime.bigint()). Run inside namespaces:
//   node udp-probe.ts --receive 198.18.0.2:9000      prints {"event":"ready"}, then progress 20 times a second
//   node udp-probe.ts --send 198.18.0.2:9000 --rate 1000 --size 500
// Imports nothing but Node.
import { createSocket } from 'node:dgram';
import { parseArgs } from 'node:util';

const TICK_MS = 5;

const { values } = parseArgs({
  options: {
    receive: { type: 'string' },
    send: { type: 'string' },
    rate: { type: 'string', default: '1000' },
    size: { type: 'string', default: '500' },
    /** Source address, when not the one that the route gives. */
    from: { type: 'string' },
  },
});
const print = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);
const [host = '', port = '0'] = (values.receive ?? values.send ?? '').split(':');
const socket = createSocket('udp4');
let packets = 0;
let lastAtNs = 0n;

if (values.receive === undefined) {
  const data = Buffer.alloc(Number(values.size), 'penstock ');
  const started = process.hrtime.bigint();
  if (values.from !== undefined) socket.bind(0, values.from);
  socket.on('error', () => undefined); // unreachable while cut: goes on
  setInterval(() => {
    const due = (Number(process.hrtime.bigint() - started) / 1e9) * Number(values.rate);
    for (; packets < due; packets += 1) socket.send(data, Number(port), host, () => undefined);
  }, TICK_MS);
} else {
  socket.on('message', () => {
    packets += 1;
    lastAtNs = process.hrtime.bigint();
  });
  socket.bind(Number(port), host, () => print({ event: 'ready' }));
  setInterval(() => print({ event: 'progress', packets, lastAtNs: String(lastAtNs) }), 50);
}
