// The corpus of certificates that are not an identity of ours: each is shown to a real server over TLS and again as a
// certificate carried by Caddy, and refused both ways; the right ones are served.
import { generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  Client,
  makeClientConstructor,
  ChannelCredentials,
  Metadata,
  type ServiceError,
} from '@grpc/grpc-js';
import { createSecureContext } from 'node:tls';
import { createLogger } from '@penstock/service/logger';
import { createMetrics, type Metrics } from '@penstock/service/metrics';
import { newId, type NodeId } from '@penstock/domain/ids';
import { AppError } from '@penstock/domain/errors';
import { createTestTrust, type TestIdentity, type TestTrust } from '@penstock/testkit/trust';
import { IdentityServiceService } from './gen/penstock/identity/v1/identity.js';
import { newKeyPair } from './certificates.js';
import { unary } from './handlers.js';
import { nodeUri, serviceUri } from './identity.js';
import { createServer, type RpcServer } from './server.js';
import { pemOf } from './trust.js';

const HOUR_MS = 3_600_000;
const nodeId = newId<NodeId>();
const revokedSerials = new Set<string>();
let trust: TestTrust;
let foreign: TestTrust;
let server: RpcServer;
let port: number;
let metrics: Metrics;
let served = 0;
let caddy: TestIdentity;

beforeAll(async () => {
  trust = await createTestTrust();
  foreign = await createTestTrust();
  caddy = await trust.service('caddy');
  metrics = createMetrics();
  const paths = IdentityServiceService;
  server = createServer({
    tls: (await trust.service('scheduler')).tls,
    trustDomain: trust.trustDomain,
    allow: {
      [paths.renew.path]: ['node', 'control-api'],
      [paths.enroll.path]: [],
      [paths.reattest.path]: [],
    },
    services: [
      [
        IdentityServiceService,
        {
          renew: unary(() => {
            served += 1;
            return Promise.resolve({ certificates: [] });
          }),
          enroll: unary(() => Promise.reject(new Error('not served'))),
          reattest: unary(() => Promise.reject(new Error('not served'))),
        },
      ],
    ],
    log: createLogger('corpus', 'silent'),
    metrics,
    clientCertificates: 'required',
    admit: (peer) =>
      revokedSerials.has(peer.serial.toString('hex'))
        ? Promise.reject(new AppError('certificate_revoked', 'the certificate is revoked'))
        : Promise.resolve(),
  });
  port = await server.listen('127.0.0.1', 0);
});

afterAll(() => server.close(0));

/** One call with whatever client certificate; a plain grpc-js client, so that nothing of ours refuses first. */
async function call(identity: TestIdentity | null, header?: string): Promise<ServiceError | null> {
  const Constructor = makeClientConstructor(IdentityServiceService, 'IdentityService');
  const context = createSecureContext({
    ca: pemOf([trust.root.certificate]),
    // The client must be willing to show a weak key; the server is what is tested.
    ciphers: 'DEFAULT@SECLEVEL=0',
    ...(identity === null ? {} : { cert: identity.tls.cert, key: identity.tls.key }),
  });
  const credentials = ChannelCredentials.createFromSecureContext(context);
  const client: Client = new Constructor(`127.0.0.1:${port}`, credentials, {
    'grpc.ssl_target_name_override': 'localhost',
    'grpc.use_local_subchannel_pool': 1,
  });
  const metadata = new Metadata();
  if (header !== undefined) metadata.set('x-penstock-client-certificate', header);
  try {
    return await new Promise((resolve) => {
      const { path, requestSerialize, responseDeserialize } = IdentityServiceService.renew;
      const options = { deadline: Date.now() + 5000 };
      const request = { csr: Buffer.alloc(0) };
      client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        metadata,
        options,
        (error) => resolve(error),
      );
    });
  } finally {
    client.close();
  }
}

const carried = (identity: TestIdentity): string => identity.certificate.toString('base64');
const uri = (value: string) => ({ type: 'url' as const, value });
const dns = (value: string) => ({ type: 'dns' as const, value });
const ownUri = () => uri(nodeUri(trust.trustDomain, nodeId));
const rsa = (bits: number) => generateKeyPairSync('rsa', { modulusLength: bits });
const ec = (namedCurve: string) => generateKeyPairSync('ec', { namedCurve });
const at = (fromHours: number, toHours: number) => ({
  notBefore: new Date(Date.now() + fromHours * HOUR_MS),
  notAfter: new Date(Date.now() + toHours * HOUR_MS),
});

/** name → a certificate that must be refused. */
const bad: Record<string, () => Promise<TestIdentity>> = {
  expired: () => trust.node(nodeId, at(-48, -1)),
  'expired a minute ago': () => trust.node(nodeId, at(-24, -1 / 60)),
  'not yet valid': () => trust.node(nodeId, at(1, 24)),
  'foreign root': () => foreign.node(nodeId),
  'foreign root, our issuing certificate sent along': () =>
    foreign.node(nodeId, { chain: [trust.issuing.certificate, trust.root.certificate] }),
  'foreign authority with the name of ours': async () => {
    const names = { subject: trust.issuing.subject };
    const fake = await foreign.authority(foreign.root, names.subject, 0);
    return trust.node(nodeId, { signer: fake, chain: [trust.issuing.certificate] });
  },
  'self-signed': async () => {
    const keys = newKeyPair();
    const self = { subject: 'CN=self', keys, certificate: Buffer.alloc(0) };
    return trust.node(nodeId, { keys, signer: self, chain: [], subject: 'CN=self' });
  },
  'self-signed authority': async () => {
    const keys = newKeyPair();
    const self = { subject: 'CN=self', keys, certificate: Buffer.alloc(0) };
    return trust.node(nodeId, {
      keys,
      signer: self,
      chain: [],
      subject: 'CN=self',
      authority: { pathLength: 0 },
    });
  },
  'an issuing certificate as identity': () =>
    trust.node(nodeId, { signer: trust.root, chain: [], authority: { pathLength: 0 } }),
  'an authority flag on a leaf': () => trust.node(nodeId, { authority: { pathLength: 0 } }),
  'signed by a node': async () => {
    const node = await trust.node(nodeId);
    const signer = { subject: 'CN=test', keys: node.keys, certificate: node.certificate };
    return trust.node(newId<NodeId>(), { signer, chain: [node.certificate, trust.issuing.certificate] });
  },
  'chain too long': async () => {
    const third = await trust.authority(trust.issuing, 'CN=third', 0);
    return trust.node(nodeId, { signer: third, chain: [third.certificate, trust.issuing.certificate] });
  },
  'usage server only': () => trust.node(nodeId, { usages: ['server'] }),
  'no usage at all': () => trust.node(nodeId, { usages: [] }),
  'common name only': () =>
    trust.node(nodeId, { names: [], subject: `CN=${nodeUri(trust.trustDomain, nodeId)}` }),
  'DNS name only': () => trust.node(nodeId, { names: [dns('localhost')] }),
  'node id as DNS name': () => trust.node(nodeId, { names: [dns(`${nodeId}.${trust.trustDomain}`)] }),
  'mail name': () => trust.node(nodeId, { names: [{ type: 'email', value: `node@${trust.trustDomain}` }] }),
  'address name': () => trust.node(nodeId, { names: [{ type: 'ip', value: '127.0.0.1' }] }),
  'address beside the URI': () =>
    trust.node(nodeId, { names: [ownUri(), { type: 'ip', value: '127.0.0.1' }] }),
  'directory name': () => trust.node(nodeId, { names: [{ type: 'dn', value: `CN=${nodeId}` }] }),
  'registered id': () => trust.node(nodeId, { names: [{ type: 'id', value: '1.3.6.1.4.1.1' }] }),
  'two URIs': () =>
    trust.node(nodeId, { names: [ownUri(), uri(nodeUri(trust.trustDomain, newId<NodeId>()))] }),
  'the same URI twice': () => trust.node(nodeId, { names: [ownUri(), ownUri()] }),
  'node and service at once': () =>
    trust.node(nodeId, { names: [ownUri(), uri(serviceUri(trust.trustDomain, 'control-api'))] }),
  'a DNS name beside the node URI': () => trust.node(nodeId, { names: [dns('localhost'), ownUri()] }),
  'wildcard node': () => trust.node(nodeId, { names: [uri(`spiffe://${trust.trustDomain}/node/*`)] }),
  'wildcard DNS beside a service': () =>
    trust.service('control-api', {
      names: [uri(serviceUri(trust.trustDomain, 'control-api')), dns('*.internal')],
    }),
  'other trust domain': () => trust.node(nodeId, { names: [uri(nodeUri('penstock.other', nodeId))] }),
  'trust domain as prefix': () =>
    trust.node(nodeId, { names: [uri(nodeUri(`${trust.trustDomain}.evil`, nodeId))] }),
  'node that is no UUID': () => trust.node(nodeId, { names: [uri(`spiffe://${trust.trustDomain}/node/7`)] }),
  'path goes on': () => trust.node(nodeId, { names: [uri(`${nodeUri(trust.trustDomain, nodeId)}/admin`)] }),
  'path climbs': () =>
    trust.node(nodeId, { names: [uri(`spiffe://${trust.trustDomain}/node/../service/control-api`)] }),
  'query behind the URI': () =>
    trust.node(nodeId, { names: [uri(`${nodeUri(trust.trustDomain, nodeId)}?a=1`)] }),
  'separator inside the URI': () =>
    trust.node(nodeId, {
      names: [uri(`https://x, URI:${serviceUri(trust.trustDomain, 'control-api')}`)],
    }),
  'NUL inside the URI': () =>
    trust.node(nodeId, { names: [uri(`${nodeUri(trust.trustDomain, nodeId)}\0.evil`)] }),
  'another scheme': () => trust.node(nodeId, { names: [uri(`https://${trust.trustDomain}/node/${nodeId}`)] }),
  'unknown service': () =>
    trust.service('control-api', { names: [uri(`spiffe://${trust.trustDomain}/service/root`)] }),
  'upper-case service': () =>
    trust.service('control-api', { names: [uri(`spiffe://${trust.trustDomain}/service/CONTROL-API`)] }),
  'RSA 1024': () => trust.node(nodeId, { keys: rsa(1024) }),
  'RSA 2048': () => trust.node(nodeId, { keys: rsa(2048) }),
  'curve P-384': () => trust.node(nodeId, { keys: ec('secp384r1') }),
  'curve secp256k1': () => trust.node(nodeId, { keys: ec('secp256k1') }),
  'curve P-224': () => trust.node(nodeId, { keys: ec('secp224r1') }),
  'short serial': () => trust.node(nodeId, { serial: Buffer.from([0x41]) }),
};

describe('a connection is refused with [R2-02]', () => {
  test('no certificate', async () => {
    expect((await call(null))?.code).toBe(14);
    expect(served).toBe(0);
  });
  test.each(Object.keys(bad))('%s', async (name) => {
    const before = served;
    const identity = await bad[name]!();
    const error = await call(identity);
    expect(error?.code, error?.details).toBe(14);
    expect(served).toBe(before);
  });
  test('a revoked certificate, by its own code', async () => {
    const identity = await trust.node(nodeId);
    revokedSerials.add(identity.serial.toString('hex'));
    const error = await call(identity);
    expect(error?.details).toBe('certificate_revoked');
  });
});

describe('a certificate carried by the edge is refused with [R2-02]', () => {
  test.each(Object.keys(bad))('%s', async (name) => {
    const before = served;
    const error = await call(caddy, carried(await bad[name]!()));
    expect(error?.details).toBe('certificate_invalid');
    expect(served).toBe(before);
  });
  test.each(['', '!', 'AAAA', 'x'.repeat(9000)])('bytes that are no certificate (%#)', async (header) => {
    expect((await call(caddy, header))?.details).toBe('certificate_invalid');
  });
  test('two of them', async () => {
    const header = carried(await trust.node(nodeId));
    expect((await call(caddy, `${header}, ${header}`))?.details).toBe('certificate_invalid');
  });
  test('any sender but the edge', async () => {
    const header = carried(await trust.node(newId<NodeId>()));
    expect((await call(await trust.node(nodeId), header))?.details).toBe('forbidden');
    expect((await call(await trust.service('control-api'), header))?.details).toBe('forbidden');
    expect((await call(await trust.service('collector'), header))?.details).toBe('forbidden');
  });
});

describe('the right ones are served', () => {
  test('a node', async () => {
    expect(await call(await trust.node(nodeId))).toBeNull();
  });
  test('a node through the edge', async () => {
    expect(await call(caddy, carried(await trust.node(nodeId)))).toBeNull();
  });
  test('a service on the list', async () => {
    expect(await call(await trust.service('control-api'))).toBeNull();
  });
  test('but not a service that is not on it, nor the edge for itself [R2-02]', async () => {
    expect((await call(await trust.service('collector')))?.details).toBe('forbidden');
    expect((await call(caddy))?.details).toBe('forbidden');
  });
});

test('refusals are counted by reason', async () => {
  const text = await metrics.registry.metrics();
  for (const reason of ['missing', 'expired', 'not_yet_valid', 'chain', 'usage', 'key', 'name']) {
    expect(text).toMatch(new RegExp(`refused_connections_total\\{reason="${reason}"\\} [1-9]`));
  }
});
