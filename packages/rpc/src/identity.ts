// Who is at the other end of a connection. A peer is what its certificate's one URI SAN says and nothing else: never
// a header, a body or a common name. Certificates of nodes are for clients only; services have both usages.
// Used by server.ts, client.ts and the certificate authority; pure, the clock is a parameter.
import type { X509Certificate } from 'node:crypto';
import { AppError } from '@penstock/domain/errors';
import { parseId, type NodeId } from '@penstock/domain/ids';

export const serviceNames = ['control-api', 'scheduler', 'collector', 'caddy', 'cli'] as const;
export type ServiceName = (typeof serviceNames)[number];

export interface NodePeer {
  readonly kind: 'node';
  readonly nodeId: NodeId;
  /** 16 bytes. */
  readonly serial: Buffer;
  /** DER of the leaf. */
  readonly certificate: Buffer;
  readonly notAfter: Date;
}

export interface ServicePeer {
  readonly kind: 'service';
  readonly name: ServiceName;
}

export type Peer = NodePeer | ServicePeer;

/** Why a certificate is no identity of ours; a closed list, since it is a metric's label. */
export const certificateProblems = [
  ...([
    'missing',
    'malformed',
    'chain',
    'not_yet_valid',
    'expired',
    'usage',
    'authority',
    'key',
    'name',
  ] as const),
] as const;
export type CertificateProblem = (typeof certificateProblems)[number];

export interface CertificateRule {
  trustDomain: string;
  usage: 'client' | 'server';
  nowMs: number;
}

export const SERIAL_BYTES = 16;

const usageOid = { server: '1.3.6.1.5.5.7.3.1', client: '1.3.6.1.5.5.7.3.2' } as const;
// Node prints the SAN as one text and quotes any value that could be mistaken for a separator, so a match of the
// whole text cannot be forged by a strange value.
const NODE_NAMES = /^URI:spiffe:\/\/([a-z0-9.-]+)\/node\/([0-9a-f-]{36})$/;
const SERVICE_NAMES =
  /^(?:DNS:[a-z0-9.-]+, )*URI:spiffe:\/\/([a-z0-9.-]+)\/service\/([a-z-]+)(?:, DNS:[a-z0-9.-]+)*$/;

export function nodeUri(trustDomain: string, nodeId: NodeId): string {
  return `spiffe://${trustDomain}/node/${nodeId}`;
}

export function serviceUri(trustDomain: string, name: ServiceName): string {
  return `spiffe://${trustDomain}/service/${name}`;
}

export function isServiceName(name: string): name is ServiceName {
  return (serviceNames as readonly string[]).includes(name);
}

/**
 * The peer that a certificate names, or why it names none. The chain is checked elsewhere (by TLS, or by
 * trust.ts for a certificate carried by Caddy); everything about the leaf itself is checked here.
 */
export function readPeer(certificate: X509Certificate, rule: CertificateRule): Peer | CertificateProblem {
  if (certificate.validFromDate.getTime() > rule.nowMs) return 'not_yet_valid';
  if (certificate.validToDate.getTime() <= rule.nowMs) return 'expired';
  if (certificate.ca) return 'authority';
  // undefined when the extension is absent, which TLS would take as "any usage".
  const usages = (certificate.keyUsage as string[] | undefined) ?? [];
  if (!usages.includes(usageOid[rule.usage])) return 'usage';
  const key = certificate.publicKey;
  if (key.asymmetricKeyType !== 'ec' || key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') return 'key';
  return readName(certificate, rule.trustDomain);
}

function readName(certificate: X509Certificate, trustDomain: string): Peer | 'name' {
  const names = certificate.subjectAltName ?? '';
  const node = NODE_NAMES.exec(names);
  if (node?.[1] === trustDomain && node[2] !== undefined) {
    // Serials print without leading zeros; ours always have 16 full bytes (certificates.ts newSerial).
    const serial = Buffer.from(certificate.serialNumber, 'hex');
    if (serial.length !== SERIAL_BYTES) return 'name';
    try {
      const nodeId = parseId<NodeId>(node[2], 'certificate');
      return {
        kind: 'node',
        nodeId,
        serial,
        certificate: Buffer.from(certificate.raw),
        notAfter: certificate.validToDate,
      };
    } catch {
      return 'name';
    }
  }
  const service = SERVICE_NAMES.exec(names);
  if (service?.[1] !== trustDomain || service[2] === undefined || !isServiceName(service[2])) return 'name';
  return { kind: 'service', name: service[2] };
}

/** For messages that name their node: it must be the certificate's. Returns the node; throws node_mismatch. */
export function requireNode(peer: Peer, claimed: string): NodePeer {
  if (peer.kind !== 'node') throw new AppError('forbidden', 'this method is for nodes');
  if (claimed.toLowerCase() !== peer.nodeId) {
    throw new AppError('node_mismatch', 'the node of the message is not the node of the certificate', {
      field: 'node_id',
    });
  }
  return peer;
}
