// A whole Penstock of the demo's own: a stack in a temporary directory with its local node, two tenants with one
// customer each. Called by main.ts; ended by its destroy(), which leaves nothing behind.
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Engine } from '@penstock/domain/terms';
import { stackPaths } from '@penstock/stack/paths';
import { startStack, type Stack } from '@penstock/stack/stack';
import { until } from '@penstock/stack/until';
import { Api, itemsOf } from './api.js';
import type { Place } from './place.js';
import type { AtEnd } from './program.js';

const GRANT_TIMEOUT_MS = 30_000;
/** Windows are sealed every second, so that the table moves; a node in production seals every 5 s. */
const WINDOW_MS = 1_000;

export interface Subscription {
  tenantId: string;
  subscriptionId: string;
  quotaBytes: bigint;
}

export interface Access {
  vlessId: string;
  /** Text of the .conf file; empty where there is no WireGuard. */
  wireguardConf: string;
}

export class Product {
  readonly wireguardInterface = `pd${process.pid}`;

  private constructor(
    private readonly place: Place,
    readonly stack: Stack,
    readonly api: Api,
  ) {}

  /**
   * `atEnd` takes what undoes the start; it works while the start is under way too. `keep` leaves data and logs
   * where they are when everything is stopped.
   */
  static async start(
    place: Place,
    say: (line: string) => void,
    atEnd: AtEnd,
    keep: boolean,
  ): Promise<Product> {
    const stack = await startAgain(say, async () => {
      const dir = await mkdtemp(join(tmpdir(), 'penstock-demo-'));
      const paths = stackPaths(join(dir, 'stack'), process.getuid?.() === 0);
      const starting = startStack({
        dir: paths.dir,
        localNode: true,
        env: { 'control-api': { LOCAL_NODE_WG_SUBNET: freeSubnet() } },
        say,
      });
      atEnd(async () => {
        await starting.then((running) => (keep ? running.stop() : running.destroy())).catch(() => undefined);
        if (keep) say(`Kept: ${dir}`);
        // A start that failed leaves its database, as root in another place.
        else for (const path of [paths.postgresHome, dir]) await rm(path, { recursive: true, force: true });
      });
      return starting;
    });
    // Nobody signs in again: the password is forgotten here.
    const password = randomBytes(18).toString('base64url');
    return new Product(place, stack, await Api.setUp(stack.edges.api, stack.secrets.setupToken, password));
  }

  /** Where the node's Xray is asked for its counters. */
  get xraySocket(): string {
    return join(this.stack.paths.agents, 'local', 'xray', 'api.sock');
  }

  get xrayPort(): number {
    return this.stack.ports['local-xray'] ?? 0;
  }

  get wireguardPort(): number {
    return this.stack.ports['local-wireguard'] ?? 0;
  }

  /** The local node: its agent enrolls and starts the engines. */
  async startNode(): Promise<void> {
    await this.stack.addAgent({
      name: 'local',
      engines: this.place.engines,
      xrayBin: this.place.xrayBin,
      wireguardGoBin: this.place.nodeWireguardBin,
      joinTokenFile: this.stack.localTokenFile,
      env: {
        WINDOW_MS: String(WINDOW_MS),
        WG_INTERFACE: this.wireguardInterface,
        AGENT_STOP_ENGINES: '1',
        // The origin stands in for the internet, at addresses that a node refuses to reach otherwise.
        ALLOW_EGRESS: '127.0.0.0/8,198.18.0.0/15',
      },
    });
  }

  /** A tenant with a plan of this quota over every engine, and one customer with one device. */
  async addCustomer(tenantName: string, quotaBytes: bigint): Promise<Subscription> {
    const { api } = this;
    const groups = itemsOf(await api.asOwner('GET', '/api/v1/node-groups'));
    const group = groups.find(({ name }) => name === 'default');
    const tenant = await api.asOwner('POST', '/api/v1/tenants', { name: tenantName });
    const tenantId = String(tenant['tenantId']);
    const plan = await api.inTenant(tenantId, 'POST', '/api/v1/plans', {
      name: 'demo',
      limitBytes: quotaBytes.toString(),
      engines: this.place.engines,
      nodeGroupIds: [String(group?.['nodeGroupId'])],
    });
    const made = await api.inTenant(tenantId, 'POST', '/api/v1/subscriptions', {
      name: 'customer',
      planId: plan['planId'],
    });
    const subscriptionId = String(made['subscriptionId']);
    if (this.place.engines.includes('wireguard')) {
      await api.inTenant(tenantId, 'POST', `/api/v1/subscriptions/${subscriptionId}/devices`, {
        name: 'device',
      });
    }
    return { tenantId, subscriptionId, quotaBytes };
  }

  /** What the API says of how far the customer's newest order is in force. */
  enforcement({ tenantId, subscriptionId }: Subscription): Promise<Record<string, unknown>> {
    return this.api.inTenant(tenantId, 'GET', `/api/v1/subscriptions/${subscriptionId}/enforcement`);
  }

  /** What the customer is told to connect with, once the node has confirmed that it lets him in with it. */
  async access(subscription: Subscription): Promise<Access> {
    const { tenantId, subscriptionId } = subscription;
    const wanted = this.place.engines;
    return until(
      'The access of a new customer',
      GRANT_TIMEOUT_MS,
      async () => {
        const { confirmed, nodes } = await this.enforcement(subscription);
        if (nodes !== 1 || confirmed !== nodes) return null;
        const path = `/api/v1/subscriptions/${subscriptionId}/access`;
        const [item] = itemsOf(await this.api.inTenant(tenantId, 'GET', path));
        const vless = (item?.['vless'] ?? []) as { uri: string }[];
        const wireguard = (item?.['wireguard'] ?? []) as { conf: string }[];
        const has: Record<Engine, boolean> = { xray: vless.length > 0, wireguard: wireguard.length > 0 };
        if (wanted.some((engine) => !has[engine])) return null;
        return {
          vlessId: decodeURIComponent(new URL(vless[0]?.uri ?? '').username),
          wireguardConf: wireguard[0]?.conf ?? '',
        };
      },
      150,
    );
  }
}

/** Once more with other ports when somebody took one of ours between picking it and listening on it. */
async function startAgain(say: (line: string) => void, start: () => Promise<Stack>): Promise<Stack> {
  try {
    return await start();
  } catch (error) {
    if (!(error instanceof Error) || !error.message.includes('EADDRINUSE')) throw error;
    say('A port was taken meanwhile: started again with others');
    return start();
  }
}

/** A network for WireGuard devices that no interface of this machine is in. */
function freeSubnet(): string {
  const used = Object.values(networkInterfaces()).flatMap((list) =>
    (list ?? []).map(({ address }) => address),
  );
  for (let second = 150; second < 250; second += 1) {
    if (!used.some((address) => address.startsWith(`10.${second}.`))) return `10.${second}.0.0/24`;
  }
  return '10.250.0.0/24';
}
