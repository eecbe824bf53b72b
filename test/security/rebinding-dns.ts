// A customer's own DNS server for v30.test.ts: each name answers the first question for its address with the public
// one and every later one with the private one, both given on the command line, with TTL 0. Imports nothing but Node,
// so `node rebinding-dns.ts --public 198.18.0.1 --private 127.0.0.1` runs inside a network namespace.
import { createSocket } from 'node:dgram';
import { parseArgs } from 'node:util';

const TYPE_A = 1;
const HEADER_BYTES = 12;

const { values } = parseArgs({ options: { public: { type: 'string' }, private: { type: 'string' } } });
const print = (line: object): void => void process.stdout.write(`${JSON.stringify(line)}\n`);
const seen = new Set<string>();
const socket = createSocket('udp4');

socket.on('message', (query, from) => {
  let end = HEADER_BYTES;
  while ((query[end] ?? 0) !== 0) end += (query[end] ?? 0) + 1;
  const question = query.subarray(HEADER_BYTES, end + 5);
  const name = query.toString('latin1', HEADER_BYTES + 1, end);
  const isAddress = query.readUInt16BE(end + 1) === TYPE_A;
  const address = seen.has(name) ? values.private : values.public;
  if (isAddress) {
    seen.add(name);
    print({ event: 'answer', name, address });
  }
  const header = Buffer.from([...query.subarray(0, 2), 0x81, 0x80, 0, 1, 0, isAddress ? 1 : 0, 0, 0, 0, 0]);
  const bytes = (address ?? '').split('.').map(Number);
  // A pointer to the name, type A, class IN, TTL 0, four bytes.
  const answer = isAddress ? Buffer.from([0xc0, HEADER_BYTES, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, ...bytes]) : '';
  socket.send(Buffer.concat([header, question, Buffer.from(answer)]), from.port, from.address);
});
socket.bind(53, '127.0.0.1', () => print({ event: 'ready' }));
