import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AppError } from '@penstock/domain/errors';
import {
  blockMessages,
  deviceMessage,
  parseErrno,
  parseGet,
  PEERS_PER_MESSAGE_MAX,
  removeMessages,
  upsertMessages,
} from './uapi.js';
import { parseDump } from './wg.channel.js';

const KEY_A = 'aa'.repeat(32);
const KEY_B = 'bb'.repeat(32);
const PSK = 'cc'.repeat(32);

test('a get answer is read in full', () => {
  const device = parseGet(
    [
      `private_key=${PSK}`,
      'listen_port=51820',
      `public_key=${KEY_A}`,
      `preshared_key=${PSK}`,
      'protocol_version=1',
      'endpoint=[fe80::1%eth0]:7',
      'last_handshake_time_sec=1700000000',
      'last_handshake_time_nsec=5',
      'tx_bytes=18446744073709551615',
      'rx_bytes=564',
      'persistent_keepalive_interval=0',
      'allowed_ip=10.66.0.2/32',
      'allowed_ip=fd66::2/128',
      'something_new=1',
      `public_key=${KEY_B}`,
      'errno=0',
      '',
    ].join('\n'),
  );
  expect(device.listenPort).toBe(51820);
  expect([...device.peers.keys()]).toEqual([KEY_A, KEY_B]);
  expect(device.peers.get(KEY_A)).toEqual({
    publicKey: KEY_A,
    presharedKey: PSK,
    allowedIps: ['10.66.0.2/32', 'fd66::2/128'],
    rxBytes: 564n,
    txBytes: 18446744073709551615n,
    lastHandshakeSeconds: 1700000000,
  });
});

test.each([
  ['no errno', `public_key=${KEY_A}\n`],
  ['a counter beyond 64 bits', `public_key=${KEY_A}\nrx_bytes=18446744073709551616\nerrno=0\n`],
  ['a negative counter', `public_key=${KEY_A}\ntx_bytes=-1\nerrno=0\n`],
  ['a short key', 'public_key=aa\nerrno=0\n'],
  ['a key in capitals', `public_key=${'AA'.repeat(32)}\nerrno=0\n`],
  ['a peer twice', `public_key=${KEY_A}\npublic_key=${KEY_A}\nerrno=0\n`],
  ['a line without =', `public_key=${KEY_A}\nrx_bytes\nerrno=0\n`],
  ['an endless line', `public_key=${KEY_A}\nendpoint=${'x'.repeat(600)}\nerrno=0\n`],
  ['an error', 'errno=-22\n'],
])('%s is refused', (_, reply) => {
  expect(() => parseGet(reply)).toThrow(AppError);
});

test('garbage is refused or read, never anything else, and never quoted', () => {
  const line = fc.tuple(
    fc.constantFrom(
      'public_key',
      'preshared_key',
      'private_key',
      'rx_bytes',
      'tx_bytes',
      'allowed_ip',
      'errno',
      'listen_port',
      '',
      'x',
    ),
    fc.constantFrom('=', '', '=='),
    fc.oneof(
      fc.string(),
      fc.constantFrom(KEY_A, KEY_B, PSK, '0', '-1', '99999999999999999999', '65536', '10.0.0.2/32'),
    ),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 30 }), fc.boolean(), (lines, good) => {
      const reply = lines.map((parts) => parts.join('')).join('\n') + (good ? '\nerrno=0\n' : '');
      try {
        for (const peer of parseGet(reply).peers.values()) {
          expect(peer.rxBytes >= 0n && peer.rxBytes < 2n ** 64n).toBe(true);
          expect(peer.publicKey).toMatch(/^[0-9a-f]{64}$/);
        }
      } catch (error) {
        expect(error).toBeInstanceOf(AppError);
        expect((error as AppError).message).not.toContain(PSK);
      }
      try {
        parseDump(reply.replaceAll('=', '\t'));
      } catch (error) {
        expect(error).toBeInstanceOf(AppError);
      }
    }),
    { numRuns: 20_000 },
  );
});

test('set messages say what is meant', () => {
  expect(deviceMessage(KEY_A, 51820)).toBe(`set=1\nprivate_key=${KEY_A}\nlisten_port=51820\n\n`);
  const peer = { publicKey: KEY_A, presharedKey: PSK, allowedIps: ['10.66.0.2/32', 'fd66::2/128'] };
  expect(upsertMessages([peer], false)).toEqual([
    `set=1\npublic_key=${KEY_A}\npreshared_key=${PSK}\nreplace_allowed_ips=true\nallowed_ip=10.66.0.2/32\nallowed_ip=fd66::2/128\n\n`,
  ]);
  expect(upsertMessages([peer], true)[0]).toContain(`public_key=${KEY_A}\nupdate_only=true\n`);
  expect(blockMessages([KEY_A])).toEqual([
    `set=1\npublic_key=${KEY_A}\nupdate_only=true\nreplace_allowed_ips=true\n\n`,
  ]);
  expect(removeMessages([KEY_A, KEY_B])).toEqual([
    `set=1\npublic_key=${KEY_A}\nremove=true\npublic_key=${KEY_B}\nremove=true\n\n`,
  ]);
});

test('a message holds a bounded number of peers and none is lost', () => {
  const keys = Array.from({ length: 2 * PEERS_PER_MESSAGE_MAX + 1 }, () => randomBytes(32).toString('hex'));
  const messages = removeMessages(keys);
  expect(messages).toHaveLength(3);
  expect(messages.join('').match(/public_key=[0-9a-f]+/g)).toEqual(keys.map((key) => `public_key=${key}`));
  expect(removeMessages([])).toEqual([]);
});

test('errno is read from the end only', () => {
  expect(parseErrno('errno=0\n')).toBe(0);
  expect(parseErrno(`endpoint=errno=7\nerrno=-98\n\n`)).toBe(-98);
  expect(() => parseErrno('errno=0\nrx_bytes=1\n')).toThrow(AppError);
});
