import { BinaryWriter } from '@bufbuild/protobuf/wire';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { newId } from '@penstock/domain/ids';
import type { SubscriptionId } from '@penstock/domain/ids';
import * as wire from './wire.js';

const user = {
  subscriptionId: newId<SubscriptionId>(),
  vlessId: '0123abcd-4567-0000-89ab-0123456789ab',
  flow: '',
} as const;

/** What GetInboundUsers would answer for the user of an AddUser request: the same User message. */
function answerOf(request: Uint8Array): Uint8Array {
  const text = Buffer.from(request);
  const type = 'xray.app.proxyman.command.AddUserOperation';
  const at = text.indexOf(type) + type.length;
  // TypedMessage.value: tag, length; inside of it AddUserOperation.user is field 1, as users is in the answer.
  return text.subarray(at + 2);
}

describe('messages of the API', () => {
  test('a user that goes in is the user that is read back', () => {
    const bytes = answerOf(wire.encodeAddUser('vless', user));
    expect(wire.decodeUsers(bytes)).toEqual([
      { email: user.subscriptionId, vlessId: user.vlessId, flow: '' },
    ]);
  });

  test('an account of another protocol is no credential', () => {
    const account = new BinaryWriter()
      .uint32(10)
      .string('xray.proxy.trojan.Account')
      .uint32(18)
      .bytes(new Uint8Array([10, 1, 65]));
    const inner = new BinaryWriter().uint32(18).string('mail').uint32(26).bytes(account.finish());
    const bytes = new BinaryWriter().uint32(10).bytes(inner.finish()).finish();
    expect(wire.decodeUsers(bytes)).toEqual([{ email: 'mail', vlessId: '', flow: '' }]);
  });

  test('one empty user is nobody', () => {
    expect(wire.decodeUsers(new Uint8Array([10, 0]))).toEqual([]);
  });

  test('a rule is always appended', () => {
    const bytes = wire.encodeAddRule('cut-1', 'blocked', [user.subscriptionId]);
    expect([...bytes.subarray(-2)]).toEqual([16, 1]);
  });

  test('counters keep every bit of int64', () => {
    const value = fc.bigInt({ min: 0n, max: 2n ** 63n - 1n });
    fc.assert(
      fc.property(
        fc.array(fc.record({ name: fc.stringMatching(/^[a-z>0-9-]{0,80}$/), value }), { maxLength: 20 }),
        (stats) => {
          const writer = new BinaryWriter();
          for (const stat of stats) {
            writer
              .uint32(10)
              .bytes(new BinaryWriter().uint32(10).string(stat.name).uint32(16).int64(stat.value).finish());
          }
          expect(wire.decodeStats(writer.finish())).toEqual(stats);
        },
      ),
    );
  });
});
