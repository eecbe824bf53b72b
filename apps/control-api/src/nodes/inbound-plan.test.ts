import { expect, test } from 'vitest';
import { planInbounds } from './inbound-plan.js';

const vless = { engine: 'xray', tag: 'v', port: 443, protocol: 'vless', security: 'none' } as const;
const reality = {
  ...vless,
  security: 'reality',
  serverNames: ['a.example'],
  target: 'a.example:443',
} as const;
const wireguard = { engine: 'wireguard', tag: 'w', port: 51820, subnets: ['10.66.0.0/16'] } as const;
const before = [
  { tag: 'v', engine: 'xray' as const, port: 443, settings: { security: 'none', protocol: 'vless' } },
  {
    ...{ tag: 'w', engine: 'wireguard' as const, port: 51820 },
    settings: { publicKey: 'key', subnets: ['10.66.0.0/16'] },
  },
];
const subnets = (list: string[]) => ({ ...wireguard, subnets: list });

test('what is as it was is left alone', () => {
  expect(planInbounds(before, [subnets(['10.66.0.0/16']), vless])).toEqual({
    remove: [],
    update: [],
    insert: [],
  });
});

test('a change of port or subnets keeps the keys', () => {
  expect(planInbounds(before, [{ ...vless, port: 8443 }, subnets(['10.66.0.0/24'])])).toEqual({
    remove: [],
    update: [
      { tag: 'v', engine: 'xray', port: 8443, settings: { protocol: 'vless', security: 'none' } },
      {
        ...{ tag: 'w', engine: 'wireguard', port: 51820 },
        settings: { publicKey: 'key', subnets: ['10.66.0.0/24'] },
      },
    ],
    insert: [],
  });
});

test('another engine or security under a tag is a new inbound; what is not named goes', () => {
  expect(planInbounds(before, [reality as never])).toEqual({
    remove: ['v', 'w'],
    update: [],
    insert: [reality],
  });
});
