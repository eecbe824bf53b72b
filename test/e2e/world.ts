// The world of an end-to-end test: a real stack of separate processes (packages/stack), real engines, customers with
// real clients, an origin. Figures are read here from the engines' own interfaces and from SQL, never from the
// product's own report.
import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { createPool, type Pool } from '@penstock/db/pool';
import { formatJoinToken, parseJoinToken } from '@penstock/rpc/join-token';
import { createNamespace, sweepNamespaces, type Namespace } from '@penstock/testkit/netns/netns';
import { startWireguardClient, type WireguardClient } from '@penstock/testkit/netns/wireguard-client';
import { startOrigin, type Origin } from '@penstock/testkit/traffic/origin';
import { freePort, startXrayClient, type XrayClient } from '@penstock/testkit/traffic/xray-client';
import { startStack, type Stack, type StackOptions } from '@penstock/stack/stack';
import { until } from './until.js';

const run = promisify(execFile);
export const PASSWORD = 'correct horse battery staple';

/** Edge that the e2e tests run through; the Caddy run sets it. */
export const edge = process.env['PENSTOCK_E2E_EDGE'] === 'caddy' ? 'caddy' : 'direct';
const XRAY_BIN = process.env['XRAY_BIN'] ?? '';
const WIREGUARD_GO_BIN = process.env['WIREGUARD_GO_BIN'] ?? '';

export interface NodeOfWorld {
  nodeId: string;
  /** Process name in the stack. */
  process: string;
  agentDir: string;
  xrayPort: number;
  wireguardPort: number;
  wireguardInterface: string;
}

export interface Customer {
  subscriptionId: string;
  tenantId: string;
}

export interface XrayCustomer extends Customer {
  clients: Map<string, XrayClient>;
}

export interface Bytes {
  up: bigint;
  down: bigint;
}

interface AccessItem {
  nodeId: string;
  vless: { uri: string }[];
  wireguard: { conf: string }[];
}

export class World {
  readonly nodes: NodeOfWorld[] = [];
  private readonly cleanup: (() => Promise<unknown> | void)[] = [];
  private readonly tokens = new Map<string, string>();
  private ownerToken = '';
  nodeGroupId = '';
  tenantId = '';
  sql!: Pool;
  origin!: Origin;

  private constructor(
    readonly stack: Stack,
    readonly dir: string,
  ) {}

  static async start(options: Partial<StackOptions> = {}): Promise<World> {
    const dir = mkdtempSync(join(tmpdir(), 'pst-e2e-'));
    const stack = await startStack({
      dir: join(dir, 'stack'),
      edge,
      autoRestart: false,
      nodeEnv: 'test',
      // The port that a stack prefers is one; worlds stand beside each other.
      ports: { api: await freePort() },
      ...options,
    });
    const world = new World(stack, dir);
    try {
      await sweepNamespaces();
      world.sql = createPool(stack.superuserUrl(), { applicationName: 'e2e' });
      world.origin = await startOrigin();
      const setup = await world.http('POST', '/api/v1/setup', undefined, {
        token: stack.secrets.setupToken,
        email: 'owner@example.test',
        password: PASSWORD,
        displayName: 'Owner',
      });
      world.ownerToken = String(setup['accessToken']);
      world.nodeGroupId = String(
        (await world.asOwner('POST', '/api/v1/node-groups', { name: 'e2e' }))['nodeGroupId'],
      );
      world.tenantId = await world.addTenant('First');
      return world;
    } catch (error) {
      await world.destroy();
      throw error;
    }
  }

  /** PENSTOCK_E2E_LOGS=DIRECTORY keeps the processes' logs there. */
  async destroy(): Promise<void> {
    for (const step of this.cleanup.reverse()) await Promise.resolve(step()).catch(() => undefined);
    await this.origin?.close().catch(() => undefined);
    await this.sql?.end().catch(() => undefined);
    const keep = process.env['PENSTOCK_E2E_LOGS'];
    if (keep !== undefined)
      cpSync(this.stack.paths.logs, join(keep, basename(this.dir)), { recursive: true });
    await this.stack.destroy();
  }

  /** Undone in reverse order at the end. */
  atEnd(step: () => Promise<unknown> | void): void {
    this.cleanup.push(step);
  }

  // ── the API, as people use it ──

  async http(method: string, path: string, token?: string, body?: unknown): Promise<Record<string, unknown>> {
    const { status, body: answer } = await this.raw(method, path, token, body);
    if (status >= 400) throw new Error(`${method} ${path}: ${status} ${JSON.stringify(answer)}`);
    return answer;
  }

  async raw(
    method: string,
    path: string,
    token?: string,
    body?: unknown,
    headers: Record<string, string> = {},
  ): Promise<{ status: number; body: Record<string, unknown>; etag: string }> {
    const response = await fetch(`${this.stack.edges.api}${path}`, {
      method,
      headers: {
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    const answer = (text === '' ? {} : JSON.parse(text)) as Record<string, unknown>;
    return { status: response.status, body: answer, etag: response.headers.get('etag') ?? '' };
  }

  asOwner(method: string, path: string, body?: unknown): Promise<Record<string, unknown>> {
    return this.http(method, path, this.ownerToken, body);
  }

  /** A request in a customer tenant, with the owner's token for it. */
  async inTenant(
    tenantId: string,
    method: string,
    path: string,
    body?: unknown,
  ): Promise<Record<string, unknown>> {
    return this.http(method, path, await this.tokenFor(tenantId), body);
  }

  async tokenFor(tenantId: string): Promise<string> {
    const known = this.tokens.get(tenantId);
    if (known !== undefined) return known;
    const answer = await this.asOwner('POST', '/api/v1/auth/switch', { tenantId });
    const token = String(answer['accessToken']);
    this.tokens.set(tenantId, token);
    return token;
  }

  async addTenant(name: string): Promise<string> {
    return String((await this.asOwner('POST', '/api/v1/tenants', { name }))['tenantId']);
  }

  // ── nodes ──

  /** `collector` (`collector-2`) makes the node send there past any balancer. */
  async addNode(
    name: string,
    engines: readonly ('xray' | 'wireguard')[],
    env: Record<string, string> = {},
    collector?: string,
  ): Promise<NodeOfWorld> {
    const xrayPort = await freePort();
    const wireguardPort = await freePort();
    const wireguardInterface = `pst${process.pid % 100_000}${this.nodes.length}`;
    // Worlds of other test files run beside this one on the same machine: an address of its own for each.
    const subnet = `10.${100 + (process.pid % 100)}.${this.nodes.length}.0/24`;
    const inbounds = engines.map((engine) =>
      engine === 'xray'
        ? { engine, port: xrayPort, security: 'none' }
        : { engine, port: wireguardPort, subnets: [subnet] },
    );
    const body = { name, address: '127.0.0.1', inbounds, nodeGroupIds: [this.nodeGroupId] };
    const nodeId = String((await this.asOwner('POST', '/api/v1/nodes', body))['nodeId']);
    const { token } = await this.asOwner('POST', `/api/v1/nodes/${nodeId}/join-tokens`, {});
    const joinTokenFile = join(this.dir, `join-${name}`);
    writeFileSync(joinTokenFile, this.joinToken(String(token), collector), { mode: 0o600 });
    const supervised = await this.stack.addAgent({
      name,
      joinTokenFile,
      engines,
      xrayBin: XRAY_BIN,
      wireguardGoBin: WIREGUARD_GO_BIN,
      env: {
        WINDOW_MS: '1000',
        ALLOW_EGRESS: '127.0.0.0/8,198.18.0.0/15',
        WG_INTERFACE: wireguardInterface,
        AGENT_STOP_ENGINES: '1',
        ...env,
      },
    });
    const node: NodeOfWorld = {
      nodeId,
      process: supervised.name,
      agentDir: join(this.stack.paths.agents, name),
      xrayPort,
      wireguardPort,
      wireguardInterface,
    };
    this.nodes.push(node);
    return node;
  }

  /** The token as it came, or with one collector's own address in it: for tests that need to know who serves a node. */
  private joinToken(token: string, collector: string | undefined): string {
    if (collector === undefined) return token;
    const usage = `localhost:${this.stack.ports[collector] ?? 0}`;
    return formatJoinToken({ ...parseJoinToken(token), usage });
  }

  /** A figure of a process's own /metrics, 0 while it has none; for what the process itself has to count. */
  async metric(process: string, series: string): Promise<number> {
    const response = await fetch(`http://127.0.0.1:${this.stack.ports[`${process}-ops`] ?? 0}/metrics`);
    const line = (await response.text()).split('\n').find((candidate) => candidate.startsWith(`${series} `));
    return Number(line?.slice(series.length + 1) ?? 0);
  }

  // ── customers ──

  async addPlan(tenantId: string, limitBytes: bigint | null, engines: readonly string[]): Promise<string> {
    const plan = await this.inTenant(tenantId, 'POST', '/api/v1/plans', {
      name: `plan ${Math.random()}`,
      limitBytes: limitBytes?.toString() ?? null,
      engines,
      nodeGroupIds: [this.nodeGroupId],
    });
    return String(plan['planId']);
  }

  /** A subscription that the nodes have confirmed. */
  async addCustomer(
    limitBytes: bigint | null,
    engines: readonly ('xray' | 'wireguard')[],
    tenantId = this.tenantId,
  ): Promise<Customer> {
    const planId = await this.addPlan(tenantId, limitBytes, engines);
    const made = await this.inTenant(tenantId, 'POST', '/api/v1/subscriptions', { name: 'customer', planId });
    const customer = { subscriptionId: String(made['subscriptionId']), tenantId };
    if (engines.includes('wireguard')) {
      await this.inTenant(tenantId, 'POST', `/api/v1/subscriptions/${customer.subscriptionId}/devices`, {
        name: 'device',
      });
    }
    await this.confirmed(customer, 'grant');
    return customer;
  }

  /** PATCH with the current version. */
  async update(customer: Customer, change: Record<string, unknown>): Promise<void> {
    const path = `/api/v1/subscriptions/${customer.subscriptionId}`;
    const token = await this.tokenFor(customer.tenantId);
    const { etag } = await this.raw('GET', path, token);
    const { status, body } = await this.raw('PATCH', path, token, change, { 'if-match': etag });
    if (status >= 400) throw new Error(`PATCH ${path}: ${status} ${JSON.stringify(body)}`);
  }

  /** Waits until every node of the customer confirmed this kind of change as its newest. */
  async confirmed(customer: Customer, kind: 'grant' | 'cut', timeoutMs = 15_000): Promise<void> {
    await until(
      async () => {
        const { rows } = await this.sql.query<{ assigned: bigint; done: bigint }>(
          `SELECT count(*) AS assigned,
                  count(*) FILTER (WHERE e.kind = $2 AND e.state = 'confirmed') AS done
           FROM assignment a LEFT JOIN LATERAL (
             SELECT kind, state FROM enforcement e
             WHERE e.tenant_id = a.tenant_id AND e.subscription_id = a.subscription_id AND e.node_id = a.node_id
             ORDER BY revision DESC LIMIT 1) e ON true
           WHERE a.subscription_id = $1`,
          [customer.subscriptionId, kind],
        );
        const row = rows[0];
        return row !== undefined && row.assigned > 0n && row.done === row.assigned;
      },
      `${kind} confirmed`,
      timeoutMs,
    );
  }

  async access(customer: Customer, node: NodeOfWorld): Promise<AccessItem> {
    const path = `/api/v1/subscriptions/${customer.subscriptionId}/access`;
    const answer = await this.inTenant(customer.tenantId, 'GET', path);
    const item = (answer['items'] as AccessItem[]).find((entry) => entry.nodeId === node.nodeId);
    if (item === undefined) throw new Error(`no access on node ${node.nodeId}: ${JSON.stringify(answer)}`);
    return item;
  }

  /** The customer's own Xray, with a SOCKS port on loopback. */
  async xrayClient(customer: Customer, node: NodeOfWorld): Promise<XrayClient> {
    const { vless } = await this.access(customer, node);
    const url = new URL(vless[0]?.uri ?? '');
    const client = await startXrayClient({
      bin: XRAY_BIN,
      serverHost: '127.0.0.1',
      serverPort: node.xrayPort,
      vlessId: decodeURIComponent(url.username),
    });
    this.atEnd(() => client.stop());
    return client;
  }

  socks(client: XrayClient): { socksPort: number; originHost: string; originPort: number } {
    return { socksPort: client.socksPort, originHost: this.origin.host, originPort: this.origin.port };
  }

  /** A namespace of its own for an origin that WireGuard customers reach ("the internet"). */
  async internet(): Promise<{ namespace: Namespace; host: string; port: number }> {
    const namespace = await createNamespace({ range: 'internet', defaultRoute: true });
    this.atEnd(() => namespace.destroy());
    const file = new URL('../../packages/testkit/src/traffic/origin.ts', import.meta.url).pathname;
    const port = 8080;
    namespace.spawn([process.execPath, file, '--host', '0.0.0.0', '--port', String(port)]).stdout?.resume();
    await until(
      () =>
        new Promise<boolean>((resolve) => {
          const socket = connect({ host: namespace.address, port }, () => resolve(true));
          socket.on('error', () => resolve(false));
          socket.on('connect', () => socket.destroy());
        }),
      'origin in its namespace',
    );
    return { namespace, host: namespace.address, port };
  }

  /** The customer's device: a real wireguard-go in a namespace of its own. */
  async wireguardClient(
    customer: Customer,
    node: NodeOfWorld,
    routes = ['198.18.0.0/15'],
  ): Promise<{ namespace: Namespace; client: WireguardClient }> {
    const { wireguard } = await this.access(customer, node);
    const conf = parseConf(wireguard[0]?.conf ?? '');
    const namespace = await createNamespace({ range: 'customer' });
    this.atEnd(() => namespace.destroy());
    const client = await startWireguardClient({
      bin: WIREGUARD_GO_BIN,
      namespace,
      privateKey: conf('PrivateKey'),
      presharedKey: conf('PresharedKey'),
      addresses: conf('Address')
        .split(',')
        .map((part) => part.trim()),
      server: { publicKey: conf('PublicKey'), host: namespace.hostAddress, port: node.wireguardPort },
      routes,
    });
    this.atEnd(() => client.stop());
    return { namespace, client };
  }

  // ── figures ──

  /** What the node's Xray itself says, over its own API with its own tool. Zero when it never saw the customer. */
  async xrayCounters(node: NodeOfWorld, customer: Customer): Promise<Bytes> {
    const socket = join(node.agentDir, 'xray', 'api.sock');
    const { stdout } = await run(XRAY_BIN, [
      ...[
        'api',
        'statsquery',
        `--server=unix://${socket}`,
        '-pattern',
        `user>>>${customer.subscriptionId}>>>traffic`,
      ],
    ]);
    const stats =
      (JSON.parse(stdout || '{}') as { stat?: { name: string; value?: string | number }[] }).stat ?? [];
    const value = (direction: string): bigint =>
      BigInt(stats.find((stat) => stat.name.endsWith(`>>>${direction}`))?.value ?? 0);
    return { up: value('uplink'), down: value('downlink') };
  }

  /** What the node's WireGuard says of a peer, over its control socket. */
  async wireguardCounters(node: NodeOfWorld, publicKey: string): Promise<Bytes> {
    const { stdout } = await run('wg', ['show', node.wireguardInterface, 'transfer']);
    const line = stdout.split('\n').find((candidate) => candidate.startsWith(publicKey));
    const [, rx = '0', tx = '0'] = line?.split('\t') ?? [];
    return { up: BigInt(rx), down: BigInt(tx) };
  }

  /** Program of a client that needs no proxy. */
  readonly directClient = new URL('../../packages/testkit/src/netns/direct-client.ts', import.meta.url)
    .pathname;

  /** The ledger's bytes of a subscription, decoded by SQL alone from the stored columns. */
  async ledgerBytes(customer: Customer): Promise<Bytes> {
    const { rows } = await this.sql.query<{ up: string; down: string }>(
      `SELECT coalesce(sum(('x' || encode(substring(payload, opened * 57 + rows * 25 + i * 8 + 1, 8), 'hex'))::bit(64)::bigint), 0)::text AS up,
              coalesce(sum(('x' || encode(substring(payload, opened * 57 + rows * 33 + i * 8 + 1, 8), 'hex'))::bit(64)::bigint), 0)::text AS down
       FROM ledger_slice, generate_series(0, rows - 1) AS i
       WHERE tenant_id = $1 AND substring(payload, opened * 57 + i * 16 + 1, 16) = $2`,
      [customer.tenantId, Buffer.from(customer.subscriptionId.replaceAll('-', ''), 'hex')],
    );
    return { up: BigInt(rows[0]?.up ?? 0), down: BigInt(rows[0]?.down ?? 0) };
  }

  /** The derived counters, all periods together. */
  async counterBytes(customer: Customer): Promise<Bytes> {
    const { rows } = await this.sql.query<{ up: string; down: string }>(
      `SELECT coalesce(sum(up_bytes), 0)::text AS up, coalesce(sum(down_bytes), 0)::text AS down
       FROM usage_counter WHERE tenant_id = $1 AND subscription_id = $2`,
      [customer.tenantId, customer.subscriptionId],
    );
    return { up: BigInt(rows[0]?.up ?? 0), down: BigInt(rows[0]?.down ?? 0) };
  }

  /** Waits until ledger and derived counters hold exactly these bytes; says what they held when they never did. */
  async booked(customer: Customer, expected: Bytes, timeoutMs = 15_000): Promise<void> {
    let seen = '';
    await until(
      async () => {
        const [ledger, counter] = await Promise.all([
          this.ledgerBytes(customer),
          this.counterBytes(customer),
        ]);
        seen = `ledger ${ledger.up}/${ledger.down}, counter ${counter.up}/${counter.down}, expected ${expected.up}/${expected.down}`;
        return [ledger, counter].every((bytes) => bytes.up === expected.up && bytes.down === expected.down);
      },
      () => `booked bytes (${seen})`,
      timeoutMs,
    );
  }
}

function parseConf(text: string): (key: string) => string {
  return (key) => {
    const line = text
      .split('\n')
      .find((candidate) => candidate.trim().startsWith(`${key} `) || candidate.startsWith(`${key}=`));
    if (line === undefined) throw new Error(`no ${key} in the WireGuard configuration`);
    return line.slice(line.indexOf('=') + 1).trim();
  };
}
