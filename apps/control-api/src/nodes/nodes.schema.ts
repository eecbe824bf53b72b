import { isIP } from 'node:net';
import { z } from 'zod';
import type { NodeGroupId } from '@penstock/domain/ids';
import { exampleIds } from '../http/example-ids.js';
import { id, idText, name, pageReply, pageShape, text, timeText } from '../http/fields.js';
import { HOST_NAME, inbound, inboundList } from './inbounds.schema.js';

/** Host name or address, without a port. */
export const hostAddress = z
  .string()
  .max(253)
  .refine((value) => isIP(value) !== 0 || (HOST_NAME.test(value) && !/^[\d.]+$/.test(value)), {
    message: 'must be a host name or an IP address',
  });

const multiplierPerMille = z.number().int().min(0).max(100_000).meta({
  description: 'A byte counts this many thousandths of a byte. A change holds from multiplierFrom on',
});
const linkMbps = z
  .number()
  .int()
  .min(1)
  .max(10_000_000)
  .meta({ description: 'What the link carries; usage above it is quarantined' });
const unique = (values: unknown[]): boolean => new Set(values).size === values.length;

const exampleInbounds = [
  {
    engine: 'xray',
    tag: 'reality',
    port: 443,
    security: 'reality',
    serverNames: ['www.example.com'],
    target: 'www.example.com:443',
  },
  { engine: 'wireguard', port: 51_820, subnets: ['10.66.0.0/16'] },
];

export const newNode = z
  .strictObject({
    name,
    address: hostAddress,
    multiplierPerMille: multiplierPerMille.default(1_000),
    linkMbps: linkMbps.default(10_000),
    nodeGroupIds: z.array(id<NodeGroupId>()).max(50).refine(unique, 'must not repeat itself').default([]),
    inbounds: inboundList,
  })
  .meta({
    examples: [
      {
        name: 'fra-1',
        address: 'fra-1.example.net',
        linkMbps: 1_000,
        nodeGroupIds: [exampleIds.nodeGroup],
        inbounds: exampleInbounds,
      },
    ],
  });
export type NewNode = z.output<typeof newNode>;

export const changedNode = z
  .strictObject({
    name: name.optional(),
    address: hostAddress.optional(),
    multiplierPerMille: multiplierPerMille.optional(),
    linkMbps: linkMbps.optional(),
    inbounds: inboundList.optional().meta({
      description:
        'All inbounds from now on. One whose tag, engine and security stay keeps its keys; one that is not named is removed',
    }),
  })
  .refine((change) => Object.values(change).some((value) => value !== undefined), 'must change something')
  .meta({ examples: [{ linkMbps: 2_000, multiplierPerMille: 1_500 }] });
export type ChangedNode = z.output<typeof changedNode>;

const states = ['active', 'drain', 'maintenance', 'revoked'] as const;

export const nodeQuery = z.strictObject({
  ...pageShape,
  state: z.enum(states).optional(),
  engine: z.enum(['xray', 'wireguard']).optional(),
  nodeGroupId: id<NodeGroupId>().optional(),
  q: text(100).optional().meta({ description: 'How the name begins, whatever its case' }),
});
export type NodeQuery = z.output<typeof nodeQuery>;

export const revoke = z
  .strictObject({ reason: name })
  .meta({ examples: [{ reason: 'the machine was given back' }] });

export const approve = z
  .strictObject({
    keyFingerprint: z
      .string()
      .regex(/^[0-9a-f]{64}$/, 'must be 64 hexadecimal digits')
      .meta({ description: 'SHA-256 of the new public key, as the status of the node shows it' }),
  })
  .meta({ examples: [{ keyFingerprint: '5e'.repeat(32) }] });

const reported = z.strictObject({
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
  state: z.enum(states),
  shared: z.boolean(),
  multiplierPerMille: z.number().int(),
  /** Windows that end from here on are billed with the multiplier, those before with the one before; null: all. */
  multiplierFrom: timeText.nullable(),
  linkMbps: z.number().int(),
  version: z.number().int(),
  createdAt: timeText,
  inbounds: z.array(inbound),
  /** The node was heard of within the last three heartbeats. */
  online: z.boolean(),
  /** What the node last said of itself; null when never, and for those who do not own it. */
  status: reported.nullable(),
});
export const nodePage = pageReply(node);
export const revoked = z.strictObject({ nodeId: idText, certificatesRevoked: z.number().int() });

export const nodeStatus = z.strictObject({
  nodeId: idText,
  state: z.enum(states),
  online: z.boolean(),
  reported: reported.nullable(),
  /** The newest certificate; null before the node enrolled. */
  certificate: z
    .strictObject({
      issuedAt: timeText,
      notBefore: timeText,
      notAfter: timeText,
      revokedAt: timeText.nullable(),
    })
    .nullable(),
  /** The stream of usage; null before its first frame. */
  stream: z
    .strictObject({
      epoch: z.number().int(),
      seq: z.string(),
      acceptedAt: timeText,
      /** Frozen: the node named another digest for a frame that was accepted (a restored snapshot, or a thief). */
      frozenAt: timeText.nullable(),
      frozenReason: z.string().nullable(),
      /** Somebody released it; it goes on when the node opens it again. */
      releaseAskedAt: timeText.nullable(),
    })
    .nullable(),
  /** The node's certificate ran out and it asks for another; null when it does not. */
  reattest: z
    .strictObject({
      keyFingerprint: z.string(),
      expiredAt: timeText,
      askedAt: timeText,
      address: z.string(),
      approvedAt: timeText.nullable(),
    })
    .nullable(),
});
