// A whole Penstock on one machine: PostgreSQL, the services, optionally Caddy, and agents, as separate processes.
// startStack() brings it up in order and resolves when the API answers; agents are added afterwards, when their
// engines are there. Invariants: one stack a directory; a second start on the same directory finds the same ports,
// secrets and data; stop() ends agents first and PostgreSQL last.
// Called by npm start (bin/start.ts), the demo, the benchmarks and the end-to-end tests.
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { bootstrap, migrate, serviceRoles, type ServiceRole } from '@penstock/db/migrate';
import { systemClock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import { findProgram, inheritedEnv } from './base-env.js';
import { caddyfile } from './caddy.js';
import { endpoints, writeEndpoints, type EdgeUrls } from './endpoints.js';
import { makeDirectory, writePrivate } from './files.js';
import { endLeftovers } from './leftovers.js';
import { takeLock, type Lock } from './lock.js';
import { rotateLog } from './logs.js';
import { stackPaths, type StackPaths } from './paths.js';
import { readOperatorConfig } from './operator-config.js';
import { PortBook } from './ports.js';
import { PostgresServer } from './postgres.js';
import { loadSecrets, type StackSecrets } from './secrets.js';
import {
  agentSpec,
  caddySpec,
  collectorSpec,
  controlApiSpec,
  databaseUrlFile,
  schedulerSpec,
} from './specs.js';
import type { AgentSpec, StackContext } from './specs.js';
import type { Stack, StackOptions } from './stack-options.js';
import { Supervised, type ProcessSpec } from './supervised.js';
import { makeTrust, serviceTls } from './trust.js';

export const databaseName = 'penstock';

const readyTimeoutMs = 60_000;
const watchEveryMs = 2_000;
/** While there is no owner yet: a look is a request in the API's log. */
const setupEveryMs = 10_000;
const trustEveryMs = 12 * 3_600_000;

export type { Stack, StackOptions } from './stack-options.js';

/** Brings a stack up. When it cannot, everything that was started is stopped and the reason is thrown. */
export async function startStack(options: StackOptions): Promise<Stack> {
  const paths = stackPaths(options.dir, process.getuid?.() === 0);
  for (const dir of [paths.dir, paths.logs, paths.run, paths.agents, paths.secrets]) await makeDirectory(dir);
  const say = options.say ?? ((): void => undefined);
  const lock = await takeLock(paths.lockFile, (pid) =>
    say(`waiting for process ${pid}, which uses this data`),
  );
  const stack = new RunningStack(options, paths, say, lock);
  try {
    await stack.start();
  } catch (error) {
    await stack.stop().catch(() => undefined);
    throw error;
  }
  return stack;
}

class RunningStack implements Stack {
  secrets!: StackSecrets;
  postgres!: PostgresServer;
  edges!: EdgeUrls;
  readonly ports: Record<string, number> = {};
  readonly localTokenFile: string;
  setupNeeded = false;
  private context!: StackContext;
  private book!: PortBook;
  private readonly processes = new Map<string, Supervised>();
  private watch: NodeJS.Timeout | null = null;
  private watching = false;
  private ready = false;
  private ending = false;
  private trustAt = 0;
  private setupAt = 0;
  private writes: Promise<void> = Promise.resolve();
  private readonly onExit = (): void => {
    for (const process of this.processes.values()) process.killNow();
  };

  constructor(
    private readonly options: StackOptions,
    readonly paths: StackPaths,
    private readonly say: (line: string) => void,
    private readonly lock: Lock,
  ) {
    this.localTokenFile = join(paths.secrets, 'local-node-token');
  }

  get setupUrl(): string {
    return `${this.context.publicUrl}/setup#${this.secrets.setupToken}`;
  }

  async start(): Promise<void> {
    if (this.options.killOnExit !== false) process.once('exit', this.onExit);
    await rm(this.paths.endpointsFile, { force: true });
    const left = await endLeftovers(this.paths.run);
    if (left.length > 0) this.say(`Ended what the run before had left: ${left.join(', ')}`);
    this.secrets = await loadSecrets(this.paths.secrets);
    this.book = await PortBook.open(this.paths.portsFile);
    await this.step('PostgreSQL', () => this.startDatabase());
    await this.pickPorts();
    await this.step('Certificates', () => this.makeTrust());
    await this.step('Services', () => this.startServices());
    await this.lookAtSetup();
    this.ready = true;
    this.changed();
    await this.writes;
    await this.lock.serving(this.edges.api);
    this.watch = setInterval(() => void this.look(), watchEveryMs);
  }

  databaseUrl(role: ServiceRole): string {
    return this.postgres.url(role, this.secrets.databasePasswords[role], databaseName);
  }

  superuserUrl(): string {
    return this.postgres.superuserUrl(databaseName);
  }

  processNames(): string[] {
    return [...this.processes.keys()];
  }

  process(name: string): Supervised {
    const found = this.processes.get(name);
    if (found === undefined) throw new AppError('not_found', `There is no process ${name} in this stack.`);
    return found;
  }

  async kill(name: string, signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await (name === 'postgresql' ? this.postgres.kill(signal) : this.process(name).kill(signal));
  }

  async restart(name: string, env: Readonly<Record<string, string | undefined>> = {}): Promise<void> {
    if (name === 'postgresql') {
      await this.postgres.stop();
      return this.postgres.start();
    }
    const target = this.process(name);
    await target.restart(env);
    await target.waitReady(readyTimeoutMs);
  }

  async addAgent(agent: AgentSpec, wait = true): Promise<Supervised> {
    await makeDirectory(join(this.paths.agents, agent.name));
    const probe = agentSpec(this.context, agent, 0);
    const spec = agentSpec(this.context, agent, await this.port(`${probe.name}-ops`));
    await this.book.save();
    const before = this.processes.get(spec.name);
    if (before !== undefined) await before.stop();
    const supervised = this.supervise(spec);
    await supervised.start();
    if (wait) await supervised.waitReady(readyTimeoutMs);
    return supervised;
  }

  async stop(): Promise<void> {
    if (this.ending) return;
    this.ending = true;
    // Whoever starts now waits for us. A full disk keeps nobody from stopping.
    await this.lock.serving(null).catch(() => undefined);
    if (this.watch !== null) clearInterval(this.watch);
    const named = (prefix: string): Supervised[] =>
      [...this.processes.values()].filter(({ name }) => name.startsWith(prefix));
    for (const kind of ['node-agent', 'caddy', 'collector', 'scheduler', 'control-api']) {
      await Promise.all(named(kind).map((process) => process.stop()));
    }
    this.ready = false;
    await this.writes;
    await rm(this.paths.endpointsFile, { force: true });
    // Undefined when the start failed before the database.
    await (this.postgres as PostgresServer | undefined)?.stop();
    process.off('exit', this.onExit);
    await this.lock.release();
  }

  async destroy(): Promise<void> {
    await this.stop();
    await this.postgres.destroy();
    await rm(this.paths.dir, { recursive: true, force: true });
  }

  private async startDatabase(): Promise<string> {
    this.postgres = new PostgresServer({
      home: this.paths.postgresHome,
      sharedBinaries: this.paths.sharedBinaries,
      logFile: join(this.paths.logs, 'postgresql.log'),
      superuserPassword: this.secrets.superuserPassword,
      ports: this.book,
      fixedPort: this.options.ports?.postgresql,
      settings: this.options.postgresSettings ?? {},
    });
    if (this.secrets.fresh) {
      const aside = await this.postgres.setAside();
      if (aside !== null) this.say(`Data of a removed ${this.paths.dir} was moved to ${aside}`);
    }
    await this.postgres.start();
    await bootstrap(this.postgres.superuserUrl(), databaseName, this.secrets.databasePasswords);
    const ran = await migrate(this.postgres.superuserUrl(), databaseName).catch((error: unknown) => {
      const why = (error as Error).message;
      throw new AppError(
        'failed_precondition',
        `The data in ${this.paths.dir} does not fit this version: ${why}.`,
        {
          cause: error,
        },
      );
    });
    for (const role of serviceRoles)
      await writePrivate(databaseUrlFile(this.paths, role), this.databaseUrl(role));
    const migrated = ran.length > 0 ? `, ${ran.length} migrations` : '';
    return (
      (this.postgres.adopted ? 'taken over from the run before' : `port ${this.postgres.port}`) + migrated
    );
  }

  private async makeTrust(): Promise<string> {
    this.trustAt = systemClock.monotonic();
    const { trustDomain, baseEnv } = this.context;
    return makeTrust(this.paths, {
      domain: trustDomain,
      dnsNames: [...(this.options.dnsNames ?? []), this.options.edgeName ?? 'localhost'],
      env: baseEnv,
    });
  }

  private async port(name: string, wish: Parameters<PortBook['get']>[1] = {}): Promise<number> {
    const port = await this.book.get(name, wish);
    this.ports[name] = port;
    return port;
  }

  private async pickPorts(): Promise<void> {
    const { options } = this;
    this.ports['postgresql'] = this.postgres.port;
    const behindCaddy = options.edge === 'caddy';
    const api = await this.port('api', {
      fixed: options.ports?.api,
      preferred: options.ports?.apiPreferred,
    });
    if (behindCaddy) await this.port('api-upstream');
    for (const name of this.names('scheduler')) {
      for (const port of [name, `${name}-enroll`, `${name}-ops`]) await this.port(port);
    }
    for (const name of this.names('collector'))
      for (const port of [name, `${name}-ops`]) await this.port(port);
    await this.port('control-api-ops');
    const edge = {
      enroll: behindCaddy ? await this.port('caddy-enroll') : this.at('scheduler-enroll'),
      enforcement: behindCaddy ? await this.port('caddy-node') : this.at('scheduler'),
      usage: behindCaddy ? this.at('caddy-node') : this.at('collector'),
    };
    if (behindCaddy) await this.port('caddy-metrics');
    const name = options.edgeName ?? 'localhost';
    const local = options.localNode ?? false;
    const redisUrlFile = join(this.paths.secrets, 'redis.url');
    if (options.redisUrl !== undefined) await writePrivate(redisUrlFile, options.redisUrl);
    this.context = {
      paths: this.paths,
      secrets: this.secrets,
      trustDomain: options.trustDomain ?? 'penstock.internal',
      nodeEnv: options.nodeEnv ?? 'production',
      logLevel: options.logLevel ?? 'info',
      baseEnv: options.baseEnv ?? inheritedEnv(),
      publicUrl: options.publicUrl ?? `http://127.0.0.1:${api}`,
      httpHost: behindCaddy ? '127.0.0.1' : (options.httpHost ?? '127.0.0.1'),
      grpcHost: behindCaddy ? '127.0.0.1' : (options.edgeHost ?? '127.0.0.1'),
      redisUrlFile: options.redisUrl === undefined ? undefined : redisUrlFile,
      adminCidrs: (await readOperatorConfig(this.paths.dir)).adminCidrs,
      nodeAddresses: {
        enroll: `${name}:${edge.enroll}`,
        enforcement: `${name}:${edge.enforcement}`,
        usage: `${name}:${edge.usage}`,
      },
      behindCaddy,
      localNode:
        local === false
          ? undefined
          : {
              tokenFile: this.localTokenFile,
              // Customers' links and the database know them: kept, also while an adopted engine listens there.
              xrayPort: await this.port('local-xray', { pinned: true }),
              wireguardPort: await this.port('local-wireguard', { pinned: true, protocol: 'udp' }),
              address: local === true ? '127.0.0.1' : local.address,
            },
    };
    this.edges = {
      api: `http://127.0.0.1:${api}`,
      nodeEdge: `https://${name}:${edge.enforcement}`,
      enrollEdge: `https://${name}:${edge.enroll}`,
      usageEdge: `https://${name}:${edge.usage}`,
    };
    await this.book.save();
  }

  private async startServices(): Promise<string> {
    const { context } = this;
    const specs: ProcessSpec[] = [];
    for (const name of this.names('scheduler')) {
      specs.push(
        schedulerSpec(context, name, this.at(name), this.at(`${name}-enroll`), this.at(`${name}-ops`)),
      );
    }
    for (const name of this.names('collector')) {
      specs.push(collectorSpec(context, name, this.at(name), this.at(`${name}-ops`)));
    }
    const httpPort = context.behindCaddy ? this.at('api-upstream') : this.at('api');
    const scheduler = `localhost:${this.at('scheduler')}`;
    specs.push(controlApiSpec(context, 'control-api', httpPort, scheduler, this.at('control-api-ops')));
    if (context.behindCaddy) specs.push(await this.prepareCaddy());
    const missing = specs
      .flatMap(({ command }) => command.slice(1, 2))
      .find((file) => file.endsWith('.js') && !existsSync(file));
    if (missing !== undefined)
      throw new AppError('failed_precondition', `${missing} is missing; build first.`);
    const started = specs.map((spec) => this.supervise(spec));
    for (const process of started) await process.start();
    await Promise.all(started.map((process) => process.waitReady(readyTimeoutMs)));
    return started.map(({ name }) => name).join(', ');
  }

  private async prepareCaddy(): Promise<ProcessSpec> {
    const program = findProgram('caddy', this.context.baseEnv['PATH'] ?? '');
    if (program === null) {
      throw new AppError(
        'failed_precondition',
        'There is no caddy on PATH; install the package caddy or leave PENSTOCK_EDGE out.',
      );
    }
    await makeDirectory(this.paths.caddy);
    const local = (name: string): string => `localhost:${this.at(name)}`;
    const schedulers = this.names('scheduler');
    const file = join(this.paths.caddy, 'Caddyfile');
    const content = caddyfile({
      apiHost: this.options.httpHost ?? '127.0.0.1',
      edgeHost: this.options.edgeHost ?? '127.0.0.1',
      apiPort: this.at('api'),
      nodePort: this.at('caddy-node'),
      enrollPort: this.at('caddy-enroll'),
      metricsPort: this.at('caddy-metrics'),
      storageDir: join(this.paths.caddy, 'storage'),
      accessLog: join(this.paths.logs, 'caddy-access.log'),
      tls: serviceTls(this.paths.trust, 'caddy'),
      upstreams: {
        api: `127.0.0.1:${this.at('api-upstream')}`,
        enroll: schedulers.map((name) => local(`${name}-enroll`)),
        scheduler: schedulers.map(local),
        collector: this.names('collector').map(local),
      },
    });
    await writePrivate(file, content);
    return caddySpec(this.context, program, file, this.at('caddy-metrics'));
  }

  private supervise(spec: ProcessSpec): Supervised {
    const kind = spec.name.replace(/-\d+$/, '');
    const extra = { ...this.options.env?.[kind], ...this.options.env?.[spec.name] };
    const supervised = new Supervised(
      { ...spec, env: { ...spec.env, ...extra } },
      {
        logDir: this.paths.logs,
        runDir: this.paths.run,
        autoRestart: this.options.autoRestart ?? true,
        say: this.say,
        onChange: () => this.changed(),
      },
    );
    this.processes.set(spec.name, supervised);
    return supervised;
  }

  /** `collector`, `collector-2`, … */
  private names(kind: 'scheduler' | 'collector'): string[] {
    const count = (kind === 'scheduler' ? this.options.schedulers : this.options.collectors) ?? 1;
    return Array.from({ length: count }, (_, index) => (index === 0 ? kind : `${kind}-${index + 1}`));
  }

  private at(name: string): number {
    const port = this.ports[name];
    if (port === undefined) throw new AppError('internal', `No port was picked for ${name}.`);
    return port;
  }

  private changed(): void {
    if (!this.ready || this.ending) return;
    this.writes = this.writes
      .then(() => {
        const content = endpoints(
          this.edges,
          this.setupNeeded ? this.setupUrl : null,
          this.processes.values(),
        );
        return writeEndpoints(this.paths.endpointsFile, content);
      })
      .catch((error: unknown) => this.say((error as Error).message));
  }

  private async lookAtSetup(): Promise<void> {
    this.setupAt = systemClock.monotonic();
    const before = this.setupNeeded;
    try {
      const response = await fetch(`${this.edges.api}/api/v1/setup`, { signal: AbortSignal.timeout(2_000) });
      const answer: unknown = response.status === 200 ? await response.json() : null;
      this.setupNeeded =
        typeof answer === 'object' && answer !== null && 'needed' in answer && answer.needed === true;
    } catch {
      // The API is being restarted: the next look tells.
    }
    if (before !== this.setupNeeded) this.changed();
  }

  /** Every few seconds: log sizes, PostgreSQL's life, the set-up link's use; twice a day the certificates. */
  private async look(): Promise<void> {
    if (this.watching || this.ending) return;
    this.watching = true;
    try {
      for (const name of [...this.processes.keys(), 'postgresql', 'caddy-access']) {
        await rotateLog(join(this.paths.logs, `${name}.log`));
      }
      const sinceSetup = systemClock.monotonic() - this.setupAt;
      if (this.setupNeeded && sinceSetup > setupEveryMs) await this.lookAtSetup();
      if (systemClock.monotonic() - this.trustAt > trustEveryMs) await this.makeTrust();
      if (this.options.autoRestart !== false && this.postgres.pid === null && !this.isEnding()) {
        this.say('postgresql ended; it is started again');
        await this.postgres.start();
      }
    } catch (error) {
      this.say((error as Error).message);
    } finally {
      this.watching = false;
    }
  }

  // A method: the flag changes while look() waits.
  private isEnding(): boolean {
    return this.ending;
  }

  private async step(name: string, work: () => Promise<string | void>): Promise<void> {
    const started = systemClock.monotonic();
    const note = await work();
    const seconds = ((systemClock.monotonic() - started) / 1000).toFixed(1);
    this.say(`${name}${typeof note === 'string' ? `: ${note}` : ''} (${seconds} s)`);
  }
}
