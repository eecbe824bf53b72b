// The same identity edges behind a real Caddy: it ends TLS, verifies client certificates, carries them in the header
// and is itself a client with a certificate of its own. Without the caddy binary there is nothing to show.
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AppError } from '@penstock/domain/errors';
import type { NodeId } from '@penstock/domain/ids';
import { makeCsr, newKeyPair, privateKeyPem, type KeyPair } from '@penstock/rpc/certificates';
import { callUnary, connect, openBidi } from '@penstock/rpc/client';
import { bidi } from '@penstock/rpc/handlers';
import { IdentityServiceClient } from '@penstock/rpc/gen/penstock/identity/v1/identity';
import { UsageServiceClient, UsageServiceService } from '@penstock/rpc/gen/penstock/usage/v1/usage';
import { pemOf, type TlsMaterial } from '@penstock/rpc/trust';
import { seedJoinToken, seedNode } from '@penstock/testkit/enrollment';
import { startIdentityEdges, log, TRUST_DOMAIN, type IdentityEdges } from './identity-edges.js';

const hasCaddy = spawnSync('caddy', ['version']).status === 0;
let edges: IdentityEdges;
let caddy: ChildProcess;
let directory: string;
let nodeEdge: string;
let enrollEdge: string;
const seenPeers: string[] = [];
const closing: { close(): void }[] = [];

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** What an operator's Caddyfile says for the two edges. */
function caddyfile(nodePort: number, enrollPort: number): string {
  const own = edges.filesOf('caddy');
  const upstream = (address: string, headers: string): string => `
    reverse_proxy https://${address} {
      ${headers}
      flush_interval -1
      transport http {
        versions 2
        tls_client_auth ${own.certFile} ${own.keyFile}
        tls_trusted_ca_certs ${own.rootFile}
        tls_server_name localhost
      }
    }`;
  return `{
  admin off
  auto_https off
  skip_install_trust
}
https://localhost:${nodePort} {
  tls ${own.certFile} ${own.keyFile} {
    protocols tls1.3
    client_auth {
      mode require_and_verify
      trusted_ca_cert_file ${own.rootFile}
    }
  }
  ${upstream(edges.nodeAddress, 'header_up X-Penstock-Client-Certificate {http.request.tls.client.certificate_der_base64}')}
}
https://localhost:${enrollPort} {
  tls ${own.certFile} ${own.keyFile} {
    protocols tls1.3
  }
  ${upstream(edges.enrollAddress, 'header_up -X-Penstock-Client-Certificate')}
}
`;
}

beforeAll(async () => {
  if (!hasCaddy) return;
  edges = await startIdentityEdges({
    more: () => ({
      services: [
        [
          UsageServiceService,
          {
            ingest: bidi(async (stream, context) => {
              if (context.peer.kind === 'node') seenPeers.push(context.peer.nodeId);
              for (const all = stream[Symbol.asyncIterator](); !(await all.next()).done;) {
                await stream.write({ message: { $case: 'expected', value: { seq: 1n } } });
              }
            }),
            baselines: () => undefined,
          },
        ],
      ],
      allow: { [UsageServiceService.ingest.path]: ['node'], [UsageServiceService.baselines.path]: [] },
    }),
  });
  directory = mkdtempSync(join(tmpdir(), 'penstock-caddy-'));
  const [nodePort, enrollPort] = [await freePort(), await freePort()];
  const file = join(directory, 'Caddyfile');
  writeFileSync(file, caddyfile(nodePort, enrollPort));
  const env = {
    PATH: process.env['PATH'],
    HOME: directory,
    XDG_DATA_HOME: directory,
    XDG_CONFIG_HOME: directory,
  };
  caddy = spawn('caddy', ['run', '--config', file, '--adapter', 'caddyfile'], {
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  await new Promise<void>((resolve, reject) => {
    caddy.stderr?.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      if (said.includes('serving initial configuration')) resolve();
    });
    caddy.once('exit', () => reject(new Error(said)));
  });
  nodeEdge = `127.0.0.1:${nodePort}`;
  enrollEdge = `127.0.0.1:${enrollPort}`;
});

afterAll(async () => {
  if (!hasCaddy) return;
  for (const client of closing) client.close();
  const ended = new Promise((resolve) => caddy.once('exit', resolve));
  caddy.kill('SIGTERM');
  await ended;
  await edges.close();
  rmSync(directory, { recursive: true });
});

interface Node {
  nodeId: NodeId;
  keys: KeyPair;
  certificates: Uint8Array[];
  tls: TlsMaterial;
}

const common = { trustDomain: TRUST_DOMAIN, servers: ['caddy' as const], log };

function identityClient(address: string, tls: TlsMaterial): IdentityServiceClient {
  const client = connect(IdentityServiceClient, address, { tls, ...common });
  closing.push(client);
  return client;
}

async function tokenOf(): Promise<{ nodeId: NodeId; text: string }> {
  const node = await seedNode(edges.database.superuserUrl);
  const expiresAt = new Date(edges.clock.now() + 600_000);
  const options = { rootFingerprint: edges.rootFingerprint, enroll: enrollEdge, nodeEdge, expiresAt };
  const { text } = await seedJoinToken(edges.database.superuserUrl, node, options);
  return { nodeId: node.nodeId, text };
}

async function enrolled(): Promise<Node> {
  const { nodeId, text } = await tokenOf();
  const [keys, root] = [newKeyPair(), edges.tlsOf('caddy').root];
  const client = identityClient(enrollEdge, { root });
  const { certificates } = await callUnary(client, client.enroll, {
    joinToken: text,
    csr: await makeCsr(keys),
  });
  edges.clock.advance(1000);
  return { nodeId, keys, certificates, tls: { cert: pemOf(certificates), key: privateKeyPem(keys), root } };
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => 'served',
    (error: unknown) => (error instanceof AppError ? error.code : String(error)),
  );
}

async function stream(node: Node, headers: Record<string, string> = {}) {
  const client = connect(UsageServiceClient, nodeEdge, { tls: node.tls, ...common });
  closing.push(client);
  const call = openBidi((metadata, options) => client.ingest(metadata, options), { headers });
  const answers = call[Symbol.asyncIterator]();
  await call.write({ message: undefined });
  return { call, answers, first: await answers.next() };
}

describe.skipIf(!hasCaddy)('behind Caddy', () => {
  test('a node enrolls, renews and streams as itself', async () => {
    const node = await enrolled();
    const { call, answers } = await stream(node);
    for (let i = 0; i < 50; i += 1) {
      await call.write({ message: undefined });
      expect((await answers.next()).done).toBe(false);
    }
    call.cancel();
    expect(seenPeers.at(-1)).toBe(node.nodeId);
    const client = identityClient(nodeEdge, node.tls);
    const { certificates } = await callUnary(client, client.renew, { csr: await makeCsr(newKeyPair()) });
    expect(certificates).toHaveLength(2);
  });

  test('a header that a node sets itself is replaced by the certificate that it showed', async () => {
    const [a, b] = [await enrolled(), await enrolled()];
    const forged = Buffer.from(b.certificates[0] ?? []).toString('base64');
    const { call } = await stream(a, { 'x-penstock-client-certificate': forged });
    expect(seenPeers.at(-1)).toBe(a.nodeId);
    call.cancel();
  });

  test('a node without a certificate is not let in, and the enrollment edge serves its two methods only', async () => {
    const root = edges.tlsOf('caddy').root;
    const bare = identityClient(nodeEdge, { root });
    expect(await codeOf(callUnary(bare, bare.renew, { csr: Buffer.alloc(0) }))).toBe('unavailable');
    const enroll = identityClient(enrollEdge, { root });
    expect(await codeOf(callUnary(enroll, enroll.renew, { csr: Buffer.alloc(0) }))).toBe('forbidden');
    const node = await enrolled();
    const client = identityClient(nodeEdge, node.tls);
    const request = { joinToken: 'pst1.x', csr: Buffer.alloc(0) };
    // Many, since a status that comes before the request was read once got lost in a third of the calls.
    for (let i = 0; i < 50; i += 1) {
      expect(await codeOf(callUnary(client, client.enroll, request))).toBe('forbidden');
    }
  });

  test('a revoked node loses its stream, its neighbour on the same connection of Caddy keeps it', async () => {
    const [node, neighbour] = [await enrolled(), await enrolled()];
    const [mine, theirs] = [await stream(node), await stream(neighbour)];
    await edges.pool.query(`UPDATE certificate SET revoked_at = now() WHERE node_id = $1`, [node.nodeId]);
    await edges.pool.query(`SELECT pg_notify('node_revoked', $1)`, [node.nodeId]);
    const started = performance.now();
    expect(await codeOf(mine.answers.next())).toBe('certificate_revoked');
    expect(performance.now() - started).toBeLessThan(5000);
    await theirs.call.write({ message: undefined });
    expect((await theirs.answers.next()).done).toBe(false);
    expect(await codeOf(stream(node))).toBe('certificate_revoked');
    theirs.call.cancel();
  });

  test('the limit counts the address that Caddy saw', async () => {
    const { text } = await tokenOf();
    const client = identityClient(enrollEdge, { root: edges.tlsOf('caddy').root });
    const csr = await makeCsr(newKeyPair());
    // What a client writes into the header itself gives it no bucket of its own.
    const tries = Array.from({ length: 60 }, (_, i) =>
      codeOf(
        callUnary(
          client,
          client.enroll,
          { joinToken: text, csr },
          { headers: { 'x-forwarded-for': `10.9.8.${i}` } },
        ),
      ),
    );
    expect(
      (await Promise.all(tries)).filter((code) => code === 'rate_limited').length,
    ).toBeGreaterThanOrEqual(40);
  });
});
