// One customer: his machine (a namespace where root allows), his Xray client and his WireGuard device with what the API
// gave him, and the program that moves the bytes. Called by main.ts; figures about him come from his own end only.
import type { ChildProcess } from 'node:child_process';
import { AppError } from '@penstock/domain/errors';
import type { Engine } from '@penstock/domain/terms';
import { followLines, type LineFollower } from '@penstock/testkit/netns/lines';
import { createNamespace, type Namespace } from '@penstock/testkit/netns/netns';
import { startWireguardClient } from '@penstock/testkit/netns/wireguard-client';
import type { XrayClientOptions } from '@penstock/testkit/traffic/xray-client';
import type { ClientCommand, ClientOrder, ClientPath, ClientProgress, PathReport } from './client-lines.js';
import type { Part } from './draw.js';
import type { OriginMachine } from './origin.js';
import type { Place } from './place.js';
import type { Access, Product, Subscription } from './product.js';
import { startProgram, type AtEnd } from './program.js';
import { uapiSocket } from './uapi.js';

const START_TIMEOUT_MS = 20_000;
const TRY_TIMEOUT_MS = 15_000;

export class Customer {
  private readonly lines: LineFollower;

  private constructor(
    /** "A" or "B". */
    readonly label: string,
    readonly subscription: Subscription,
    readonly part: Part,
    /** Public key of his device in hex; empty without WireGuard. */
    readonly deviceKey: string,
    private readonly traffic: ChildProcess,
  ) {
    this.lines = followLines(traffic);
  }

  /** Sets his machine up; nothing flows before start(). */
  static async equip(
    label: string,
    part: Part,
    subscription: Subscription,
    {
      place,
      product,
      origin,
      atEnd,
    }: { place: Place; product: Product; origin: OriginMachine; atEnd: AtEnd },
  ): Promise<Customer> {
    const access = await product.access(subscription);
    const namespace = place.namespaces ? await createNamespace({ range: 'customer' }) : null;
    // Ends whatever runs inside.
    if (namespace !== null) atEnd(() => namespace.destroy());
    const socksPort = await startXray(place, product, access, namespace, atEnd);
    const device =
      namespace !== null && place.engines.includes('wireguard')
        ? await startDevice(place, product, access, namespace)
        : null;
    const paths: ClientPath[] = [...part.transfers].map(([engine, transfers]) => ({
      engine,
      socksPort: engine === 'xray' ? socksPort : null,
      deviceSocket: engine === 'wireguard' && device !== null ? uapiSocket(device.interfaceName) : null,
      ...transfers,
    }));
    const traffic = startProgram('./client.js', namespace, atEnd);
    const order: ClientOrder = {
      originHost: origin.host,
      originPort: origin.port,
      paths,
      quotaBytes: Number(part.quotaBytes),
    };
    traffic.stdin?.write(`${JSON.stringify(order)}\n`);
    const deviceKey = device === null ? '' : Buffer.from(device.publicKey, 'base64').toString('hex');
    const customer = new Customer(label, subscription, part, deviceKey, traffic);
    await customer.lines.next(({ event }) => event === 'progress', {
      past: true,
      timeoutMs: START_TIMEOUT_MS,
    });
    return customer;
  }

  /** Begins the transfers. */
  start(): void {
    this.tell({ command: 'start' });
  }

  /** His newest figures. */
  get progress(): ClientProgress {
    const line = this.lines.last('progress');
    if (line === undefined) throw new AppError('internal', `Customer ${this.label} says nothing.`);
    return line as unknown as ClientProgress;
  }

  path(engine: Engine): PathReport {
    const found = this.progress.paths.find((path) => path.engine === engine);
    if (found === undefined) throw new AppError('internal', `Customer ${this.label} does not use ${engine}.`);
    return found;
  }

  /** Why his program gave a transfer up, where it did. */
  get failure(): string | null {
    const line = this.lines.last('failed');
    return line === undefined
      ? null
      : `Customer ${this.label}, ${String(line['engine'])}: ${String(line['reason'])}`;
  }

  /** A new connection over each engine: how many bytes came back. */
  async tryAgain(): Promise<Map<Engine, number>> {
    this.tell({ command: 'try' });
    const came = new Map<Engine, number>();
    for (const engine of this.part.transfers.keys()) {
      const tried = await this.lines.next((line) => line['event'] === 'tried' && line['engine'] === engine, {
        past: true,
        timeoutMs: TRY_TIMEOUT_MS,
      });
      came.set(engine, Number(tried['receivedBytes']));
    }
    return came;
  }

  private tell(command: ClientCommand): void {
    this.traffic.stdin?.write(`${JSON.stringify(command)}\n`);
  }
}

/** His Xray, with a SOCKS port on his own loopback. Its settings go in over standard input. */
async function startXray(
  place: Place,
  product: Product,
  access: Access,
  namespace: Namespace | null,
  atEnd: AtEnd,
): Promise<number> {
  const options: XrayClientOptions = {
    bin: place.xrayBin,
    serverHost: namespace?.hostAddress ?? '127.0.0.1',
    serverPort: product.xrayPort,
    vlessId: access.vlessId,
  };
  const program = startProgram('@penstock/testkit/traffic/xray-client', namespace, atEnd);
  program.stdin?.end(JSON.stringify(options));
  const ready = await followLines(program).next(({ event }) => event === 'ready', {
    past: true,
    timeoutMs: START_TIMEOUT_MS,
  });
  return Number(ready['socksPort']);
}

function startDevice(
  place: Place,
  product: Product,
  access: Access,
  namespace: Namespace,
): ReturnType<typeof startWireguardClient> {
  const conf = parseConf(access.wireguardConf);
  return startWireguardClient({
    bin: place.deviceWireguardBin,
    namespace,
    privateKey: conf('PrivateKey'),
    presharedKey: conf('PresharedKey'),
    addresses: conf('Address').split(/\s*,\s*/),
    server: { publicKey: conf('PublicKey'), host: namespace.hostAddress, port: product.wireguardPort },
    routes: ['198.18.0.0/15'],
  });
}

function parseConf(text: string): (key: string) => string {
  const settings = new Map(
    text.split('\n').flatMap((line): [string, string][] => {
      const at = line.indexOf('=');
      return at < 0 ? [] : [[line.slice(0, at).trim(), line.slice(at + 1).trim()]];
    }),
  );
  return (key) => {
    const value = settings.get(key);
    if (value === undefined)
      throw new AppError('internal', `There is no ${key} in the WireGuard configuration.`);
    return value;
  };
}
