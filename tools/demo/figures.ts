// The figures as the demo reads them itself: the engines' counters from their own interfaces (Xray's API with Xray's own
// tool, WireGuard's control socket), the ledger's and the derived counters from PostgreSQL, decoded in SQL from the
// stored columns. Never from the product's own report. Called by watch.ts.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { promisify } from 'node:util';
import { createPool, type Pool } from '@penstock/db/pool';
import { engineNumber, engines, type Engine } from '@penstock/domain/terms';
import type { Customer } from './customer.js';
import type { Place } from './place.js';
import type { Product, Subscription } from './product.js';
import { readPeers, uapiSocket } from './uapi.js';

const run = promisify(execFile);
const TOOL_TIMEOUT_MS = 10_000;

export interface Bytes {
  up: bigint;
  down: bigint;
}

export type BytesByEngine = ReadonlyMap<Engine, Bytes>;

/** The newest order about a customer, as the scheduler stored it. */
export interface Order {
  kind: 'grant' | 'cut';
  cause: string;
  state: 'ordered' | 'confirmed' | 'unproven' | 'failed';
  sessionsEnded: number | null;
  cutUs: number | null;
  provenUs: number | null;
  reason: string;
  /** Milliseconds from the cause (the crossing, accepted) to the order and to the node's acknowledgement. */
  orderedMs: number;
  acknowledgedMs: number | null;
}

export interface Booked {
  /** From the ledger's slices. */
  ledger: BytesByEngine;
  /** The derived counter that the quota is compared with, up and down together. */
  used: bigint;
  /** `active`, `limited` … */
  state: string;
  order: Order | null;
}

export class Figures {
  private readonly sql: Pool;

  constructor(
    private readonly place: Place,
    private readonly product: Product,
  ) {
    this.sql = createPool(product.stack.superuserUrl(), { applicationName: 'demo', max: 4 });
  }

  close(): Promise<void> {
    return this.sql.end();
  }

  /** What Xray counts for each of these, by subscription id. Zero before the first byte; a cut customer's stay. */
  async xray(customers: readonly Customer[]): Promise<Map<string, Bytes>> {
    const server = `--server=unix://${this.product.xraySocket}`;
    const { stdout } = await run(this.place.xrayBin, ['api', 'statsquery', server, '-pattern', 'user>>>'], {
      timeout: TOOL_TIMEOUT_MS,
    });
    const answer = JSON.parse(stdout || '{}') as { stat?: { name: string; value?: string | number }[] };
    const values = new Map((answer.stat ?? []).map(({ name, value }) => [name, BigInt(value ?? 0)]));
    return new Map(
      customers.map(({ subscription: { subscriptionId: id } }) => [
        id,
        {
          up: values.get(`user>>>${id}>>>traffic>>>uplink`) ?? 0n,
          down: values.get(`user>>>${id}>>>traffic>>>downlink`) ?? 0n,
        },
      ]),
    );
  }

  /** What the node's WireGuard counts, by the peer's public key in hex. A removed peer is not among them. */
  async wireguard(): Promise<Map<string, Bytes>> {
    const socket = uapiSocket(this.product.wireguardInterface);
    if (!existsSync(socket)) return this.kernelWireguard();
    const peers = await readPeers(socket);
    return new Map([...peers].map(([key, { rxBytes, txBytes }]) => [key, { up: rxBytes, down: txBytes }]));
  }

  /** The same from the kernel's module, over its own tool. */
  private async kernelWireguard(): Promise<Map<string, Bytes>> {
    const { stdout } = await run('wg', ['show', this.product.wireguardInterface, 'transfer'], {
      timeout: TOOL_TIMEOUT_MS,
    });
    const peers = new Map<string, Bytes>();
    for (const line of stdout.split('\n')) {
      const [key = '', rx, tx] = line.split('\t');
      if (rx === undefined || tx === undefined) continue;
      peers.set(Buffer.from(key, 'base64').toString('hex'), { up: BigInt(rx), down: BigInt(tx) });
    }
    return peers;
  }

  async booked(subscription: Subscription): Promise<Booked> {
    const [ledger, [state], [order]] = await Promise.all([
      this.ledger(subscription),
      this.rows<{ state: string; used: bigint }>(subscription, STATE),
      this.rows<Order>(subscription, NEWEST_ORDER),
    ]);
    return { ledger, used: state?.used ?? 0n, state: state?.state ?? 'unknown', order: order ?? null };
  }

  private async ledger({ tenantId, subscriptionId }: Subscription): Promise<BytesByEngine> {
    const { rows } = await this.sql.query<{ engine: number; up: string; down: string }>(LEDGER, [
      tenantId,
      Buffer.from(subscriptionId.replaceAll('-', ''), 'hex'),
    ]);
    const nothing = { up: 0n, down: 0n };
    return new Map(
      engines.map((engine) => {
        const row = rows.find((candidate) => candidate.engine === engineNumber[engine]);
        return [engine, row === undefined ? nothing : { up: BigInt(row.up), down: BigInt(row.down) }];
      }),
    );
  }

  private async rows<T extends object>(subscription: Subscription, text: string): Promise<T[]> {
    const { rows } = await this.sql.query(text, [subscription.tenantId, subscription.subscriptionId]);
    return rows as T[];
  }
}

// A slice's payload: columns of the meters it opens (57 bytes a meter), then of its rows: subscription 16, engine 1,
// meter 8, bytes up 8, bytes down 8 … big-endian (packages/ledger/src/frame.ts).
const LEDGER = `
  SELECT get_byte(payload, opened * 57 + rows * 16 + i) AS engine,
         sum(('x' || encode(substring(payload, opened * 57 + rows * 25 + i * 8 + 1, 8), 'hex'))::bit(64)::bigint)::text AS up,
         sum(('x' || encode(substring(payload, opened * 57 + rows * 33 + i * 8 + 1, 8), 'hex'))::bit(64)::bigint)::text AS down
    FROM ledger_slice, generate_series(0, rows - 1) AS i
   WHERE tenant_id = $1 AND substring(payload, opened * 57 + i * 16 + 1, 16) = $2
   GROUP BY 1`;

const STATE = `
  SELECT s.effective_state AS state,
         coalesce((SELECT sum(c.up_bytes + c.down_bytes) FROM usage_counter c
                    WHERE c.tenant_id = s.tenant_id AND c.subscription_id = s.subscription_id), 0)::bigint AS used
    FROM subscription_state s WHERE s.tenant_id = $1 AND s.subscription_id = $2`;

const NEWEST_ORDER = `
  SELECT kind, cause, state, sessions_ended AS "sessionsEnded", cut_us AS "cutUs", proven_us AS "provenUs", reason,
         (extract(epoch FROM ordered_at - caused_at) * 1000)::float8 AS "orderedMs",
         (extract(epoch FROM acknowledged_at - caused_at) * 1000)::float8 AS "acknowledgedMs"
    FROM enforcement WHERE tenant_id = $1 AND subscription_id = $2 ORDER BY revision DESC LIMIT 1`;
