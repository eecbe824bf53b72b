import { isIP } from 'node:net';
import { z } from 'zod';
import type { NodeGroupId } from '@penstock/domain/ids';
import { id, idText, name, pageReply, timeText } from '../http/fields.js';
import { parseSubnet } from './subnet.js';
import { exampleIds } from '../http/example-ids.js';

const HOST_NAME = /^(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i;
const INBOUNDS_MAX = 16;

/** Host name or address, without a port. */
export const hostAddress = z
  .string()
  .max(253)
  .refine((value) => isIP(value) !== 0 || (HOST_NAME.test(value) && !/^[\d.]+$/.test(value)), {
    message: 'must be a host name or an IP address',
  });

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

export const newNode = z
  .strictObject({
    name,
    address: hostAddress,
    multiplierPerMille: z.number().int().min(0).max(100_000).default(1_000),
    linkMbps: z.number().int().min(1).max(10_000_000).default(10_000),
    nodeGroupIds: z.array(id<NodeGroupId>()).max(50).refine(unique, 'must not repeat itself').default([]),
    inbounds: z
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
      ),
  })
  .meta({
    examples: [
      {
        name: 'fra-1',
        address: 'fra-1.example.net',
        linkMbps: 1_000,
        nodeGroupIds: [exampleIds.nodeGroup],
        inbounds: [
          {
            engine: 'xray',
            tag: 'reality',
            port: 443,
            security: 'reality',
            serverNames: ['www.example.com'],
            target: 'www.example.com:443',
          },
          { engine: 'wireguard', port: 51_820, subnets: ['10.66.0.0/16'] },
        ],
      },
    ],
  });
export type NewNode = z.output<typeof newNode>;

export const revoke = z
  .strictObject({ reason: name })
  .meta({ examples: [{ reason: 'the machine was given back' }] });

const inbound = z.strictObject({
  tag: z.string(),
  engine: z.enum(['xray', 'wireguard']),
  port: z.number().int(),
  settings: z.record(z.string(), z.unknown()),
});

const status = z.strictObject({
  heartbeatAt: timeText,
  agentVersion: z.string(),
  appliedRevision: z.string(),
  subscriptions: z.number().int(),
  engines: z.unknown(),
  walBytes: z.string(),
  walFrames: z.number().int(),
  acknowledgedSeq: z.string(),
  clockSkewMs: z.number().int(),
});

export const node = z.strictObject({
  nodeId: idText,
  name: z.string(),
  address: z.string(),
  state: z.enum(['active', 'drain', 'maintenance', 'revoked']),
  shared: z.boolean(),
  multiplierPerMille: z.number().int(),
  linkMbps: z.number().int(),
  version: z.number().int(),
  createdAt: timeText,
  inbounds: z.array(inbound),
  /** The node was heard of within the last three heartbeats. */
  online: z.boolean(),
  /** What the node last said of itself; null when never, and for those who do not own it. */
  status: status.nullable(),
});
export const nodePage = pageReply(node);
export const revoked = z.strictObject({ nodeId: idText, certificatesRevoked: z.number().int() });
