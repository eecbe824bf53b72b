// What an inbound may be. The node's own rules, so that what passes here starts there.
import { z } from 'zod';
import { parseSubnet } from './subnet.js';

export const HOST_NAME =
  /^(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i;
const INBOUNDS_MAX = 16;

/** Names that the node's Xray has for parts of its own. */
const RESERVED_TAGS = ['api', 'direct', 'blocked'];

/** The node's rule too: a tag that passes here starts there. */
const tag = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,31}$/, 'must be 1 to 32 of a-z, 0-9 and -, not starting with -')
  .refine((value) => !RESERVED_TAGS.includes(value), `must not be ${RESERVED_TAGS.join(', ')}`);
const port = z.number().int().min(1).max(65_535);

const subnet = z.string().transform((value, context) => {
  const parsed = parseSubnet(value);
  if (parsed !== null) return parsed;
  context.addIssue({
    code: 'custom',
    message: 'must be a private subnet in CIDR form, /8 to /30 or /32 to /126',
  });
  return z.NEVER;
});

const plainVless = z.strictObject({
  engine: z.literal('xray'),
  tag: tag.default('vless'),
  port,
  protocol: z.literal('vless').default('vless'),
  security: z.literal('none'),
});

const realityVless = plainVless.extend({
  security: z.literal('reality'),
  /** Names that clients send in TLS; the target must answer for each of them. */
  serverNames: z.array(z.string().regex(HOST_NAME, 'must be a host name')).min(1).max(16),
  /** What answers those who are not customers. */
  target: z.string().regex(/^[^\s:]{1,253}:\d{1,5}$/, 'must be host:port'),
});

const wireguard = z.strictObject({
  engine: z.literal('wireguard'),
  tag: tag.default('wireguard'),
  port,
  /** Devices get their addresses from these. */
  subnets: z.array(subnet).min(1).max(4),
});

export const newInbound = z.discriminatedUnion('engine', [
  z.discriminatedUnion('security', [plainVless, realityVless]),
  wireguard,
]);
export type NewInbound = z.output<typeof newInbound>;

const unique = (values: unknown[]): boolean => new Set(values).size === values.length;

/** All inbounds of a node. */
export const inboundList = z
  .array(newInbound)
  .min(1)
  .max(INBOUNDS_MAX)
  .refine((list) => unique(list.map((inbound) => inbound.tag)), 'must not use a tag twice')
  .refine(
    (list) => unique(list.map((inbound) => `${inbound.engine} ${inbound.port}`)),
    'must not use a port twice',
  )
  // A node has one interface; its subnets may be several.
  .refine(
    (list) => list.filter((inbound) => inbound.engine === 'wireguard').length <= 1,
    'must not hold two of WireGuard',
  );

export const inbound = z.strictObject({
  tag: z.string(),
  engine: z.enum(['xray', 'wireguard']),
  port: z.number().int(),
  settings: z.record(z.string(), z.unknown()),
});
