// The wire as services and clients use it: errors keep their code, deadlines are demanded, streams push back, a node's
// calls end when it is revoked, renewed files are used, and the client knows whom it talks to.
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer as createTcpServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as tlsConnect } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Metadata } from '@grpc/grpc-js';
import { FakeClock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import { newId, type NodeId } from '@penstock/domain/ids';
import { createLogger } from '@penstock/service/logger';
import { createMetrics } from '@penstock/service/metrics';
import { createTestTrust, writeTlsFiles, type TestTrust } from '@penstock/testkit/trust';
import {
  UsageServiceClient,
  UsageServiceService,
  type IngestResponse,
} from './gen/penstock/usage/v1/usage.js';
import { IdentityServiceClient, IdentityServiceService } from './gen/penstock/identity/v1/identity.js';
import { callUnary, connect, openBidi, openServerStream } from './client.js';
import { bidi, serverStream, unary, type CallContext } from './handlers.js';
import { requireNode } from './identity.js';
import { createServer, type RpcServer, type ServerOptions } from './server.js';
import type { TlsSource } from './trust.js';

const log = createLogger('test', 'silent');
const nodeId = newId<NodeId>();
let trust: TestTrust;
const cleanups: (() => void | Promise<void>)[] = [];

beforeAll(async () => {
  trust = await createTestTrust();
});
afterEach(async () => {
  while (cleanups.length > 0) await cleanups.pop()?.();
});

const usagePaths = UsageServiceService;
const usageAllow = { [usagePaths.ingest.path]: ['node'], [usagePaths.baselines.path]: ['node'] } as const;

interface Handlers {
  ingest?: Parameters<typeof bidi<never, IngestResponse>>[0];
  baselines?: Parameters<typeof serverStream>[0];
}

async function usageServer(
  handlers: Handlers,
  options: Partial<ServerOptions> = {},
): Promise<{ server: RpcServer; address: string }> {
  const server = createServer({
    tls: (await trust.service('collector')).tls,
    trustDomain: trust.trustDomain,
    allow: usageAllow,
    services: [
      [
        UsageServiceService,
        {
          ingest: bidi(handlers.ingest ?? (() => Promise.resolve())),
          baselines: serverStream(handlers.baselines ?? (() => Promise.resolve())),
        },
      ],
    ],
    log,
    metrics: createMetrics(),
    clientCertificates: 'required',
    ...options,
  });
  cleanups.push(() => server.close(100));
  return { server, address: `127.0.0.1:${await server.listen('127.0.0.1', 0)}` };
}

async function usageClient(address: string, tls?: TlsSource): Promise<UsageServiceClient> {
  const client = connect(UsageServiceClient, address, {
    tls: tls ?? (await trust.node(nodeId)).tls,
    trustDomain: trust.trustDomain,
    servers: ['collector'],
    log,
  });
  cleanups.push(() => client.close());
  return client;
}

const accepted = (seq: bigint): IngestResponse => ({
  message: { $case: 'accepted', value: { epoch: 1, seq, duplicate: false } },
});
const opening = (id: string = nodeId) => ({
  message: {
    $case: 'open' as const,
    value: {
      nodeId: id,
      agentVersion: '1',
      epoch: 0,
      seq: 0n,
      digest: Buffer.alloc(0),
      clockMs: 0n,
      oldestSeq: 0n,
    },
  },
});

async function failure(work: Promise<unknown>): Promise<AppError> {
  const error = await work.then(
    () => undefined,
    (caught: unknown) => caught,
  );
  expect(error).toBeInstanceOf(AppError);
  return error as AppError;
}

async function drain<T>(stream: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const message of stream) all.push(message);
  return all;
}

describe('streams', () => {
  test('messages go both ways in order and the end is OK', async () => {
    const { address } = await usageServer({
      ingest: async (stream) => {
        let seq = 0n;
        for (const all = stream[Symbol.asyncIterator](); !(await all.next()).done;)
          await stream.write(accepted((seq += 1n)));
      },
    });
    const client = await usageClient(address);
    const stream = openBidi((m, o) => client.ingest(m, o));
    for (let i = 0; i < 500; i += 1) await stream.write(opening());
    stream.end();
    const answers = await drain(stream);
    expect(answers.map((a) => (a.message?.$case === 'accepted' ? a.message.value.seq : 0n))).toEqual(
      Array.from({ length: 500 }, (_, i) => BigInt(i + 1)),
    );
  });

  test('an error keeps code, field, text and delay', async () => {
    const { address } = await usageServer({
      ingest: () => {
        throw new AppError('rate_limited', 'später – noch einmal', { field: 'seq', retryAfterMs: 250 });
      },
      baselines: () => Promise.reject(new TypeError('secret detail')),
    });
    const client = await usageClient(address);
    // Thrown before the promise exists: the wrapper must not let it through to grpc-js.
    const error = await failure(drain(openBidi((m, o) => client.ingest(m, o))));
    expect(error).toMatchObject({
      code: 'rate_limited',
      field: 'seq',
      message: 'später – noch einmal',
      retryAfterMs: 250,
    });
    const hidden = await failure(drain(openServerStream((m, o) => client.baselines({ nodeId }, m, o))));
    expect(hidden).toMatchObject({ code: 'internal', message: 'internal error' });
  });

  test('a writer waits for a reader that does not read', async () => {
    let written = 0;
    let stop: (() => void) | undefined;
    const { address } = await usageServer({
      baselines: async (_request, stream) => {
        const meters = Array.from({ length: 500 }, () => ({
          meter: 1n,
          engine: 1,
          boot: Buffer.alloc(16),
          tenantId: Buffer.alloc(16),
          subscriptionId: Buffer.alloc(16),
          deviceId: Buffer.alloc(16),
          cumulativeUp: 1n,
          cumulativeDown: 1n,
        }));
        const response = { meters };
        try {
          for (; written < 1000; written += 1)
            await (stream as { write(m: unknown): Promise<void> }).write(response);
        } finally {
          stop?.();
        }
      },
    });
    const client = await usageClient(address);
    const iterator = openServerStream((m, o) => client.baselines({ nodeId }, m, o))[Symbol.asyncIterator]();
    await iterator.next();
    const stopped = new Promise<void>((resolve) => (stop = resolve));
    await iterator.return?.(undefined);
    await stopped;
    expect(written).toBeLessThan(1000);
  });

  test('a message above the bound is refused [R1-16]', async () => {
    const { address } = await usageServer(
      { ingest: async (stream) => void (await drain(stream)) },
      { maxMessageBytes: 10_000 },
    );
    const client = await usageClient(address);
    const stream = openBidi((m, o) => client.ingest(m, o));
    const data = Buffer.alloc(20_000);
    const part = { epoch: 1, seq: 1n, part: 0, parts: 1, data, signature: Buffer.alloc(0), traceparent: '' };
    await stream.write({ message: { $case: 'part', value: part } });
    expect((await failure(drain(stream))).code).toBe('payload_too_large');
  });

  test('more calls than a node needs are refused', async () => {
    const { address } = await usageServer({ ingest: async (stream) => void (await drain(stream)) });
    const client = await usageClient(address);
    const streams = Array.from({ length: 40 }, () => openBidi((m, o) => client.ingest(m, o)));
    const refused = await Promise.any(
      streams.map((stream) =>
        drain(stream).then(
          () => Promise.reject(new Error('ended')),
          (e: AppError) => e,
        ),
      ),
    );
    expect(refused.code).toBe('rate_limited');
    for (const stream of streams) stream.cancel();
  });
});

describe('identity', () => {
  test('a node that names another node is refused', async () => {
    const { address } = await usageServer({
      ingest: async (stream, context) => {
        for await (const request of stream as AsyncIterable<ReturnType<typeof opening>>) {
          requireNode(context.peer, request.message.value.nodeId);
          await stream.write(accepted(1n));
        }
      },
    });
    const client = await usageClient(address);
    const stream = openBidi((m, o) => client.ingest(m, o));
    await stream.write(opening(newId<NodeId>()));
    expect((await failure(drain(stream))).code).toBe('node_mismatch');
  });

  test('a revoked node loses its stream and its connection, the neighbour keeps them', async () => {
    const { server, address } = await usageServer({
      ingest: async (stream) => {
        for (const all = stream[Symbol.asyncIterator](); !(await all.next()).done;)
          await stream.write(accepted(1n));
      },
    });
    const other = newId<NodeId>();
    const [mine, theirs] = [
      await usageClient(address),
      await usageClient(address, (await trust.node(other)).tls),
    ];
    const [first, second] = [openBidi((m, o) => mine.ingest(m, o)), openBidi((m, o) => theirs.ingest(m, o))];
    const [firstAnswers, secondAnswers] = [first[Symbol.asyncIterator](), second[Symbol.asyncIterator]()];
    for (const [stream, answers] of [
      [first, firstAnswers],
      [second, secondAnswers],
    ] as const) {
      await stream.write(opening());
      await answers.next();
    }
    expect(new Set(server.liveNodes())).toEqual(new Set([nodeId, other]));
    const started = performance.now();
    server.closePeer(nodeId);
    expect((await failure(firstAnswers.next())).code).toBe('certificate_revoked');
    expect(performance.now() - started).toBeLessThan(5000);
    await second.write(opening());
    expect((await secondAnswers.next()).done).toBe(false);
    await expect.poll(() => server.liveSerials().length, { timeout: 5000 }).toBe(1);
    second.cancel();
  });

  test('a stream does not outlive the certificate', async () => {
    const clock = new FakeClock(Date.now());
    const { server, address } = await usageServer(
      { ingest: async (stream) => void (await drain(stream)) },
      { clock },
    );
    const client = await usageClient(address);
    const stream = openBidi((m, o) => client.ingest(m, o));
    await stream.write(opening());
    await expect.poll(() => server.liveNodes().length).toBe(1);
    clock.advance(25 * 3_600_000);
    expect((await failure(drain(stream))).code).toBe('certificate_invalid');
  });

  test('the client talks to the service it means and to no other', async () => {
    const { address } = await usageServer({}, { tls: (await trust.service('scheduler')).tls });
    const client = await usageClient(address);
    expect((await failure(drain(openBidi((m, o) => client.ingest(m, o))))).code).toBe('unavailable');
    const impostor = await usageServer(
      {},
      { tls: (await trust.node(nodeId, { usages: ['server', 'client'] })).tls },
    );
    const second = await usageClient(impostor.address);
    expect((await failure(drain(openBidi((m, o) => second.ingest(m, o))))).code).toBe('unavailable');
    const foreign = await createTestTrust();
    const stranger = await usageServer({}, { tls: (await foreign.service('collector')).tls });
    const third = await usageClient(stranger.address);
    expect((await failure(drain(openBidi((m, o) => third.ingest(m, o))))).code).toBe('unavailable');
  });

  test('TLS 1.2 and HTTP/1.1 are not spoken [R1-28]', async () => {
    const { address } = await usageServer({});
    const { tls } = await trust.node(nodeId);
    const port = Number(address.split(':')[1]);
    const attempt = (options: object) =>
      new Promise<string>((resolve) => {
        const socket = tlsConnect({
          port,
          host: '127.0.0.1',
          servername: 'localhost',
          ca: tls.root,
          cert: tls.cert,
          key: tls.key,
          ...options,
        });
        socket.on('error', (error) => resolve(error.message));
        socket.on('close', () => resolve('closed'));
      });
    expect(await attempt({ maxVersion: 'TLSv1.2', ALPNProtocols: ['h2'] })).toMatch(/version|closed/);
    expect(await attempt({ ALPNProtocols: ['http/1.1'] })).toMatch(/protocol|closed/);
  });
});

describe('unary calls', () => {
  async function identityEdge(): Promise<IdentityServiceClient> {
    const paths = IdentityServiceService;
    const answer = unary((_request: unknown, context: CallContext) =>
      Promise.resolve({
        certificates: [],
        nodeId: context.address,
        trustRoot: Buffer.alloc(0),
        pending: false,
      }),
    );
    const server = createServer({
      tls: (await trust.service('scheduler')).tls,
      trustDomain: trust.trustDomain,
      allow: { [paths.enroll.path]: ['anyone'], [paths.reattest.path]: ['anyone'], [paths.renew.path]: [] },
      services: [[IdentityServiceService, { enroll: answer, reattest: answer, renew: answer }]],
      log,
      metrics: createMetrics(),
      clientCertificates: 'none',
    });
    cleanups.push(() => server.close(100));
    const address = `127.0.0.1:${await server.listen('127.0.0.1', 0)}`;
    const options = {
      tls: { root: trust.trustPem },
      trustDomain: trust.trustDomain,
      servers: ['scheduler' as const],
      log,
    };
    const client = connect(IdentityServiceClient, address, options);
    cleanups.push(() => client.close());
    return client;
  }

  test('need a deadline of at most 30 s [R1-22]', async () => {
    const client = await identityEdge();
    const request = { joinToken: '', csr: Buffer.alloc(0) };
    const without = await new Promise<string | undefined>((resolve) =>
      client.enroll(request, new Metadata(), (error) => resolve(error?.details)),
    );
    expect(without).toBe('invalid_input');
    expect((await failure(callUnary(client, client.enroll, request, { deadlineMs: 60_000 }))).code).toBe(
      'invalid_input',
    );
    expect((await callUnary(client, client.enroll, request)).nodeId).toBe('127.0.0.1');
  });

  test('end at their deadline when nobody answers, at once when nobody is there, and new tries to connect prolong nothing [R1-22]', async () => {
    const ask = async (address: string, deadlineMs?: number): Promise<[string, number]> => {
      const client = connect(IdentityServiceClient, address, {
        ...{ tls: (await trust.node(nodeId)).tls, trustDomain: trust.trustDomain, log },
        servers: ['scheduler' as const],
      });
      cleanups.push(() => client.close());
      const started = performance.now();
      const settings = deadlineMs === undefined ? {} : { deadlineMs };
      const error = await failure(callUnary(client, client.renew, { csr: Buffer.alloc(0) }, settings));
      return [error.code, performance.now() - started];
    };
    let [silences, refusals] = [0, 0];
    const silent = createTcpServer(() => (silences += 1));
    await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
    const rude = createTcpServer((socket) => {
      refusals += 1;
      socket.destroy();
    });
    await new Promise<void>((resolve) => rude.listen(0, '127.0.0.1', resolve));
    cleanups.push(() => void rude.close());
    const refusing = `127.0.0.1:${(rude.address() as AddressInfo).port}`;
    cleanups.push(() => void silent.close());
    const hanging = `127.0.0.1:${(silent.address() as AddressInfo).port}`;
    // Nothing said: ten seconds. Something said: that. The client that is hung up on connects again meanwhile.
    const [[code, ms], [shortCode, shortMs], [goneCode, goneMs], [rudeCode, rudeMs]] = await Promise.all([
      ...([ask(hanging), ask(hanging, 700)] as const),
      ...([ask('127.0.0.1:1', 700), ask(refusing, 700)] as const),
    ]);
    expect([code, shortCode, goneCode, rudeCode]).toEqual(Array.from({ length: 4 }, () => 'unavailable'));
    expect(ms).toBeGreaterThan(9_900);
    expect(ms).toBeLessThan(11_000);
    expect(shortMs).toBeGreaterThan(650);
    expect(Math.max(shortMs, goneMs, rudeMs)).toBeLessThan(1_700);
    // Both were connected to the silent one, so they waited for it.
    expect(silences).toBe(2);
    expect(refusals).toBeGreaterThan(1);
  }, 30_000);

  test('the enrollment edge serves what is for anyone and nothing else', async () => {
    const client = await identityEdge();
    expect((await failure(callUnary(client, client.renew, { csr: Buffer.alloc(0) }))).code).toBe('forbidden');
  });
});

describe('a server does not start', () => {
  test('when a method has no list of allowed peers [R2-02]', async () => {
    await expect(usageServer({}, { allow: { [usagePaths.ingest.path]: ['node'] } })).rejects.toThrow(
      /Baselines has no list/,
    );
  });
  test('when the list does not fit the edge', async () => {
    const allow = { ...usageAllow, [usagePaths.ingest.path]: ['anyone' as const] };
    await expect(usageServer({}, { allow })).rejects.toThrow(/does not fit/);
    await expect(usageServer({}, { clientCertificates: 'none' })).rejects.toThrow(/does not fit/);
  });
  test('when a method has no implementation', async () => {
    const services = [[UsageServiceService, { ingest: bidi(() => Promise.resolve()) }]] as const;
    await expect(usageServer({}, { services })).rejects.toThrow(/Baselines has no implementation/);
  });
  test('when others can read the key, or the key is another [R1-12]', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'penstock-tls-'));
    cleanups.push(() => rmSync(directory, { recursive: true }));
    const files = writeTlsFiles(directory, await trust.service('collector'));
    chmodSync(files.keyFile, 0o640);
    await expect(usageServer({}, { tls: files })).rejects.toThrow(/mode 0640/);
    const other = await trust.service('collector');
    const mixed = { ...other.tls, key: (await trust.service('collector')).tls.key };
    await expect(usageServer({}, { tls: mixed })).rejects.toThrow(/does not belong/);
  });
});

describe('renewal', () => {
  let directory: string;
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'penstock-tls-'));
  });
  afterAll(() => rmSync(directory, { recursive: true }));

  test('renewed files are used for new connections on both sides, open ones stay', async () => {
    const serials: string[] = [];
    const serverFiles = writeTlsFiles(join(directory, 'server'), await trust.service('collector'));
    const firstNode = await trust.node(nodeId);
    const clientFiles = writeTlsFiles(join(directory, 'client'), firstNode);
    const { address } = await usageServer(
      {
        ingest: async (stream, context) => {
          if (context.peer.kind === 'node') serials.push(context.peer.serial.toString('hex'));
          for (const all = stream[Symbol.asyncIterator](); !(await all.next()).done;)
            await stream.write(accepted(1n));
        },
      },
      { tls: serverFiles },
    );
    const old = await usageClient(address, clientFiles);
    const open = openBidi((m, o) => old.ingest(m, o));
    const answers = open[Symbol.asyncIterator]();
    await open.write(opening());
    await answers.next();
    const renewedServer = await trust.service('collector');
    const renewedNode = await trust.node(nodeId);
    writeTlsFiles(join(directory, 'server'), renewedServer);
    writeTlsFiles(join(directory, 'client'), renewedNode);
    const serverSerial = () =>
      new Promise<string>((resolve, reject) => {
        const port = Number(address.split(':')[1]);
        const { tls } = renewedNode;
        const socket = tlsConnect(
          {
            port,
            host: '127.0.0.1',
            servername: 'localhost',
            ca: tls.root,
            cert: tls.cert,
            key: tls.key,
            ALPNProtocols: ['h2'],
          },
          () => {
            resolve(socket.getPeerCertificate().serialNumber.toLowerCase());
            socket.destroy();
          },
        );
        socket.on('error', reject);
      });
    await expect.poll(serverSerial, { timeout: 5000 }).toBe(renewedServer.serial.toString('hex'));
    const fresh = await usageClient(address, clientFiles);
    const second = openBidi((m, o) => fresh.ingest(m, o));
    await second.write(opening());
    await second[Symbol.asyncIterator]().next();
    expect(serials).toEqual([firstNode.serial.toString('hex'), renewedNode.serial.toString('hex')]);
    await open.write(opening());
    expect((await answers.next()).done).toBe(false);
    open.cancel();
    second.cancel();
  });
});
