import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseAccessLine } from './access-log.js';
import { parseSockets } from './sockets.js';

const id = '01890a5d-ac96-774b-bcce-b302099a8057';
const stamp = '2026/11/22 16:33:32.123456';

describe('lines of the access log', () => {
  test.each([
    [`${stamp} from 1.2.3.4:5 accepted tcp:example.com:80 [vless >> direct] email: ${id}`, '1.2.3.4', 5],
    [`${stamp} from tcp:1.2.3.4:5 accepted udp:8.8.8.8:53 [vless -> blocked] email: ${id}`, '1.2.3.4', 5],
    [
      `${stamp} from [2001:DB8:0::1]:65535 accepted tcp:[::1]:80 [vless >> direct] email: ${id}`,
      '2001:db8::1',
      65_535,
    ],
    [
      `${stamp} from [::ffff:1.2.3.4]:5 accepted tcp:1.1.1.1:443 [vless >> direct] email: ${id}`,
      '1.2.3.4',
      5,
    ],
  ])('%s', (line, address, port) => {
    expect(parseAccessLine(line)).toEqual({ inboundTag: 'vless', address, port, subscriptionId: id });
  });

  test.each([
    '',
    `${stamp} from 1.2.3.4:5 rejected  proxy/vless: invalid request`,
    `${stamp} from unix:@ accepted tcp:127.0.0.1:1 [api -> api]`,
    `${stamp} from 1.2.3.4:5 accepted tcp:x:1 [vless >> direct] email: someone`,
    `of a line accepted tcp:x:1 [vless >> direct] email: ${id}`,
  ])('nobody is read from %j', (line) => {
    expect(parseAccessLine(line)).toBeNull();
  });

  test('whatever stands where the destination is, source and customer are those of the line', () => {
    const hostName = fc.stringMatching(/^[A-Za-z0-9._-]{1,255}$/);
    fc.assert(
      fc.property(hostName, (destination) => {
        const line = `${stamp} from 1.2.3.4:5 accepted tcp:${destination}:80 [vless >> direct] email: ${id}`;
        expect(parseAccessLine(line)).toEqual({
          inboundTag: 'vless',
          address: '1.2.3.4',
          port: 5,
          subscriptionId: id,
        });
      }),
    );
  });

  test('any text is read or refused, never a crash', () => {
    fc.assert(
      fc.property(fc.string({ maxLength: 300 }), (text) => {
        parseAccessLine(text);
        parseSockets(text);
      }),
      { numRuns: 5_000 },
    );
  });
});

test('sockets of ss: IPv4, IPv6, mapped, with a zone', () => {
  const text = [
    'ESTAB      0      0          127.0.0.1:443     127.0.0.1:41234 ino:64657 sk:1a cgroup:/ <->  ',
    'CLOSE-WAIT 0      0      [2001:db8::1]:443 [2001:db8::2]:41235 users:(("xray",pid=1,fd=3)) ino:1 sk:2 <->',
    'ESTAB      0      0     [::ffff:1.2.3.4]:443 [::ffff:5.6.7.8]:41236 ino:1 sk:3 <->',
    'ESTAB      0      0     [fe80::1%eth0]:443 [fe80::2]%eth0:41237 ino:1 sk:4 <->',
    '',
  ].join('\n');
  expect(
    parseSockets(text).map(
      (socket) => `${socket.localPort} ${socket.address} ${socket.port} ${socket.cookie}`,
    ),
  ).toEqual([
    '443 127.0.0.1 41234 sk:1a',
    '443 2001:db8::2 41235 sk:2',
    '443 5.6.7.8 41236 sk:3',
    '443 fe80::2 41237 sk:4',
  ]);
});
