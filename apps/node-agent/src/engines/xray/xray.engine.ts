// The Xray of this node behind the one engine interface: renders its configuration, starts or adopts the process,
// changes users over its API, cuts customers with proof, reads counters. It keeps no history.
// Invariants: one Xray a node, never the agent's child in life or death; no call reaches Xray unvalidated; changes run
// one after another (#alone), proofs run beside them. Called by enforcement/ and accounting/ of the node-agent.
import { networkInterfaces } from 'node:os';
import { setTimeout as wait } from 'node:timers/promises';
import type { Access } from '@penstock/domain/access';
import type { Clock } from '@penstock/domain/clock';
import { AppError } from '@penstock/domain/errors';
import type { SubscriptionId } from '@penstock/domain/ids';
import type { CounterReading, CutResult, Engine, EngineHealth, EngineState } from '../engine.js';
import { AccessLog } from './access-log.js';
import type { AccessLine } from './access-log.js';
import { Admitted } from './admitted.js';
import { bounded, XrayApi } from './api.js';
import { isUuid, renderConfig, staticHash, userOf, validateAccess, validateInbounds } from './config.js';
import type { ConfigInput, XrayInbound } from './config.js';
import { Cutter } from './cut.js';
import { dropEgressFirewall, egressMark, raiseEgressFirewall } from './egress-firewall.js';
import { OwnersFile } from './owners-file.js';
import { bootOf } from './proc.js';
import { XrayProcess } from './process.js';
import { SocketOwners } from './socket-owners.js';
import { canDestroySockets, destroySockets, listSockets } from './sockets.js';
import type { SocketRef } from './sockets.js';

const READY_TIMEOUT_MS = 20_000;
const READY_POLL_MS = 20;
/** How often closed connections are forgotten. */
const SWEEP_INTERVAL_MS = 5_000;
/** How often the number of users is compared; 11–50 ms at 50,000. */
const DRIFT_INTERVAL_MS = 60_000;
/** How often the firewall is put up again, should somebody have flushed it; one nft process of 10 ms. */
const FIREWALL_INTERVAL_MS = 60_000;
const HEALTH_TIMEOUT_MS = 2_000;
/** Streams refused within this are ended by one call. */
const REFUSED_BATCH_MS = 20;

export interface XrayEngineOptions {
  /** Path of the binary, at least VERSION_FLOOR (process.ts). */
  bin: string;
  /** Runtime directory, made 0700: configuration, pid file, API socket, access FIFO. Best on tmpfs (/run). */
  dir: string;
  inbounds: readonly XrayInbound[];
  /** Private, loopback, link-local, metadata and this machine's own addresses are out of customers' reach. */
  blockPrivateEgress: boolean;
  /** CIDRs that customers may reach all the same. */
  allowEgress: readonly string[];
  clock: Clock;
  log: XrayLog;
}

export interface XrayLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** What there is while a process is attached. */
interface Attached {
  api: XrayApi;
  accessLog: AccessLog;
  admitted: Admitted;
  owners: SocketOwners;
  ownersFile: OwnersFile;
  cutter: Cutter;
  boot: string;
  timers: NodeJS.Timeout[];
  /** What the last comparison of numbers found; empty when they agree. */
  drift: string;
  /** Lines about customers who are not admitted count only once the admitted set is known. */
  synced: boolean;
}

export class XrayEngine implements Engine {
  readonly name = 'xray';
  readonly #options: XrayEngineOptions;
  readonly #process: XrayProcess;
  readonly #ports: readonly number[];
  readonly #tags: readonly string[];
  readonly #portOfTag: ReadonlyMap<string, number>;
  readonly #deathListeners = new Set<() => void>();
  #attached: Attached | null = null;
  #problem = 'Xray was not started yet';
  #version = '';
  /** What was last said of the firewall, so that it is said once. */
  #firewallProblem = '';
  #queue: Promise<unknown> = Promise.resolve();
  #refused: { ref: SocketRef; id: SubscriptionId }[] = [];

  constructor(options: XrayEngineOptions) {
    validateInbounds(options.inbounds);
    this.#options = options;
    this.#process = new XrayProcess(options.bin, options.dir, options.clock);
    this.#ports = options.inbounds.map(({ port }) => port);
    this.#tags = options.inbounds.map(({ tag }) => tag);
    this.#portOfTag = new Map(options.inbounds.map(({ tag, port }) => [tag, port]));
    // A wrong CIDR shows here and not at the first start.
    staticHash(this.#configInput());
  }

  /** Adopts or starts Xray. Throws failed_precondition or conflict with a sentence that says what to do. */
  async start(desired: Iterable<Access>): Promise<void> {
    const wanted = new Map<SubscriptionId, Access>();
    for (const access of desired) {
      this.validate(access);
      wanted.set(access.subscriptionId, access);
    }
    new Admitted(this.#options.inbounds).refuseSharedIds(wanted);
    try {
      await this.#alone(() => this.#start(wanted));
    } catch (error) {
      this.#problem = error instanceof AppError ? error.message : 'Xray could not be started';
      throw error;
    }
  }

  validate(access: Access): void {
    validateAccess(access, this.#options.inbounds);
  }

  /** Access without an xray part takes it away (without the proof that `cut` gives). A changed credential ends the sessions opened with the old one. */
  async apply(changes: Access[], beforeRemoval: () => Promise<void>): Promise<void> {
    for (const access of changes) this.validate(access);
    await this.#alone(() =>
      this.#apply(new Map(changes.map((access) => [access.subscriptionId, access])), beforeRemoval),
    );
  }

  async cut(
    ids: SubscriptionId[],
    beforeRemoval: () => Promise<void>,
  ): Promise<Map<SubscriptionId, CutResult>> {
    const unique = [...new Set(ids)];
    if (!unique.every(isUuid))
      throw new AppError('invalid_input', 'subscriptionId must be a lower-case UUID');
    if (unique.length === 0) return new Map();
    const [cutter, begun] = await this.#alone(async () => {
      const { cutter: current } = this.#running();
      return [current, await current.end(unique, beforeRemoval)] as const;
    });
    const results = await cutter.prove(begun);
    for (const [id, { ended, reason, unattributed }] of results) {
      const fields = { subscriptionId: id.slice(0, 8), reason };
      if (!ended) this.#options.log.warn(fields, 'cut is unproven');
      if (unattributed !== undefined) {
        this.#options.log.warn(
          { ...fields, count: unattributed },
          'sockets of unknown owner were ended by address',
        );
      }
    }
    return results;
  }

  /** Before `start` it adopts a process that an earlier agent left, so its counters can be read before any change. */
  async counters(): Promise<CounterReading[]> {
    if (this.#attached === null) await this.#alone(() => this.#adoptOnly());
    const { api, boot } = this.#running();
    const readings = new Map<string, CounterReading>();
    for (const { name, value } of await api.queryStats('user>>>')) {
      const [, id = '', kind, direction] = name.split('>>>');
      if (kind !== 'traffic' || !isUuid(id)) continue;
      let reading = readings.get(id);
      if (reading === undefined) {
        reading = { subscriptionId: id as SubscriptionId, deviceId: null, boot, up: 0n, down: 0n };
        readings.set(id, reading);
      }
      if (direction === 'uplink') reading.up = value;
      else if (direction === 'downlink') reading.down = value;
    }
    // A process that died meanwhile and was started again would have answered with another life's numbers.
    if (this.#running().boot !== boot)
      throw new AppError('unavailable', 'Xray was started anew during the read');
    return [...readings.values()];
  }

  async readBack(): Promise<EngineState> {
    return this.#alone(async () => {
      const attached = this.#running();
      await this.#readAdmitted(attached);
      attached.drift = '';
      return { admitted: attached.admitted.asAccess() };
    });
  }

  async health(): Promise<EngineHealth> {
    const attached = this.#attached;
    if (attached === null || this.#process.life === null) {
      return {
        running: false,
        version: this.#version,
        problem: this.#problem || 'Xray is not running; it is started again',
      };
    }
    try {
      await attached.api.sysStats(HEALTH_TIMEOUT_MS);
      return { running: true, version: this.#version, problem: attached.drift };
    } catch {
      return {
        running: false,
        version: this.#version,
        problem: 'Xray runs but does not answer its API; look at its CPU load',
      };
    }
  }

  /** `callback` is called each time the process is found dead (within 250 ms); not after detach() or stop(). */
  onDied(callback: () => void): void {
    this.#deathListeners.add(callback);
  }

  async detach(): Promise<void> {
    await this.#alone(async () => {
      await this.#letGo();
      await this.#process.release();
      this.#problem = 'the agent let go of Xray';
    });
  }

  async stop(): Promise<void> {
    await this.#alone(async () => {
      if (this.#attached === null) await this.#process.claim();
      await this.#letGo();
      await this.#process.adopt(staticHash(this.#configInput()));
      await this.#process.stop();
      await this.#process.endOrphans();
      await this.#dropFirewall();
      await this.#process.release();
      this.#problem = 'Xray was stopped';
    });
  }

  async #start(wanted: Map<SubscriptionId, Access>): Promise<void> {
    this.#version = await this.#process.version();
    await this.#raiseFirewall();
    if (this.#attached === null || !(await this.#process.alive())) {
      await this.#letGo();
      if (!(await this.#adoptOnly())) await this.#startFresh(wanted);
    }
    const attached = this.#running();
    await this.#readAdmitted(attached);
    const extra = [...attached.admitted.ids()].filter((id) => !wanted.has(id));
    if (extra.length > 0) {
      const begun = await attached.cutter.end(extra, async () => undefined);
      // The proof only decides when the blocking rule goes; nobody waits for it here.
      void attached.cutter.prove(begun);
    }
    await this.#apply(wanted, async () => undefined);
    attached.synced = true;
    this.#problem = '';
  }

  /** True when a running Xray of ours was taken over. What runs on an old configuration, or hangs, is ended. */
  async #adoptOnly(): Promise<boolean> {
    if (this.#attached !== null && (await this.#process.alive())) return true;
    await this.#process.claim();
    if (!(await this.#process.adopt(staticHash(this.#configInput())))) return false;
    try {
      const attached = this.#attach();
      await attached.ownersFile.load(attached.owners);
      await this.#ready(attached.api);
      await attached.cutter.dropLeftRules();
    } catch (error) {
      this.#options.log.warn({ error }, 'the running xray cannot be driven and is replaced');
      await this.#letGo();
      await this.#process.stop();
      return false;
    }
    this.#options.log.info({ pid: this.#process.life?.pid }, 'xray adopted');
    return true;
  }

  async #startFresh(wanted: Map<SubscriptionId, Access>): Promise<void> {
    const orphans = await this.#process.endOrphans();
    if (orphans > 0) this.#options.log.warn({ count: orphans }, 'left xray processes ended');
    const input = this.#configInput();
    const secrets = this.#options.inbounds.flatMap(({ reality }) =>
      reality === undefined ? [] : [reality.privateKey],
    );
    const config = renderConfig({ ...input, ownAddresses: ownAddresses() }, wanted.values());
    await this.#process.spawn(config, staticHash(input), this.#options.inbounds, secrets);
    const attached = this.#attach();
    try {
      await this.#ready(attached.api);
    } catch (error) {
      const failure = this.#process.life === null ? this.#process.startFailure(secrets) : error;
      await this.#letGo();
      await this.#process.stop();
      throw failure;
    }
    this.#options.log.info(
      { pid: this.#process.life?.pid, count: wanted.size, version: this.#version },
      'xray started',
    );
  }

  async #ready(api: XrayApi): Promise<void> {
    const { clock } = this.#options;
    const deadline = clock.monotonic() + READY_TIMEOUT_MS;
    for (;;) {
      try {
        await api.sysStats(HEALTH_TIMEOUT_MS);
        return;
      } catch (error) {
        if (!(await this.#process.alive()) || clock.monotonic() > deadline) throw error;
      }
      await wait(READY_POLL_MS);
    }
  }

  #attach(): Attached {
    const { life, paths } = this.#process;
    if (life === null) throw new AppError('unavailable', 'Xray ended while it was being attached');
    const { clock, inbounds } = this.#options;
    const api = new XrayApi(paths.socket, this.#tags, clock);
    const admitted = new Admitted(inbounds);
    const owners = new SocketOwners();
    const ownersFile = new OwnersFile(paths.owners);
    const canDestroy = canDestroySockets();
    if (!canDestroy) this.#options.log.warn({}, 'without CAP_NET_ADMIN open sessions cannot be ended');
    const cutter = new Cutter({
      api,
      admitted,
      owners,
      tags: this.#tags,
      ports: this.#ports,
      clock,
      canDestroy,
    });
    const { check } = this.#process.watch(() => this.#died(attached));
    const accessLog = new AccessLog(
      paths.accessLog,
      (line) => this.#learn(attached, line),
      // The pipe ends a moment before the kernel calls the process dead.
      () => setTimeout(check, 10).unref(),
    );
    const every = (intervalMs: number, work: () => Promise<void>): NodeJS.Timeout =>
      setInterval(() => void work().catch(() => undefined), intervalMs).unref();
    const attached: Attached = {
      ...{
        api,
        accessLog,
        admitted,
        owners,
        ownersFile,
        cutter,
        boot: bootOf(life),
        drift: '',
        synced: false,
      },
      timers: [
        every(SWEEP_INTERVAL_MS, () => this.#sweep(attached)),
        every(DRIFT_INTERVAL_MS, () => this.#alone(() => this.#compareNumbers(attached))),
        every(FIREWALL_INTERVAL_MS, () =>
          this.#alone(async () => {
            if (this.#attached === attached) await this.#raiseFirewall();
          }),
        ),
      ],
    };
    this.#attached = attached;
    return attached;
  }

  async #letGo(): Promise<void> {
    const attached = this.#attached;
    this.#attached = null;
    this.#process.unwatch();
    if (attached === null) return;
    for (const timer of attached.timers) clearInterval(timer);
    attached.accessLog.close();
    attached.api.close();
    await attached.ownersFile.settled();
  }

  #died(attached: Attached): void {
    if (this.#attached !== attached) return;
    this.#problem = 'Xray ended by itself; it is started again';
    this.#options.log.error({}, 'xray died');
    void this.#letGo();
    for (const callback of this.#deathListeners) callback();
  }

  #running(): Attached {
    if (this.#attached === null || this.#process.life === null) {
      throw new AppError('unavailable', this.#problem || 'Xray is not running', { retryAfterMs: 250 });
    }
    return this.#attached;
  }

  async #readAdmitted({ api, admitted }: Attached): Promise<void> {
    for (const tag of this.#tags) admitted.replace(tag, await api.getInboundUsers(tag));
  }

  async #apply(changes: Map<SubscriptionId, Access>, beforeRemoval: () => Promise<void>): Promise<void> {
    const { api, admitted, cutter } = this.#running();
    admitted.refuseSharedIds(changes);
    const outdated = [...changes.values()].filter(({ subscriptionId, xray }) =>
      admitted.differs(subscriptionId, xray),
    );
    if (outdated.length > 0) {
      const ids = outdated.map(({ subscriptionId }) => subscriptionId);
      await beforeRemoval();
      await cutter.remove(ids);
      await cutter.endSockets(ids);
    }
    const missing = [...changes.values()].flatMap(({ subscriptionId, tenantId, xray }) => {
      if (xray === undefined) {
        admitted.forget(subscriptionId);
        return [];
      }
      admitted.remember(subscriptionId, tenantId);
      return this.#options.inbounds
        .map((inbound) => ({ tag: inbound.tag, user: userOf(inbound, subscriptionId, xray) }))
        .filter(({ tag, user }) => !admitted.holds(tag, user));
    });
    await cutter.unblock(missing.map(({ user }) => user.subscriptionId));
    await bounded(missing, async ({ tag, user }) => {
      if (!(await api.addUser(tag, user))) {
        await api.removeUser(tag, user.subscriptionId);
        await api.addUser(tag, user);
      }
      admitted.add(tag, user);
    });
  }

  #learn(attached: Attached, line: AccessLine): void {
    const localPort = this.#portOfTag.get(line.inboundTag);
    if (localPort === undefined) return;
    const ref: SocketRef = { localPort, address: line.address, port: line.port };
    attached.owners.learn(ref, line.subscriptionId);
    attached.ownersFile.add(ref, line.subscriptionId);
    if (attached.synced && !attached.admitted.has(line.subscriptionId))
      this.#refuse(ref, line.subscriptionId);
  }

  /**
   * A stream of somebody without access: his connection was let in just before the cut, or an idle mux session that
   * no line had told of. It is ended now; the customers of one moment are ended together.
   */
  #refuse(ref: SocketRef, id: SubscriptionId): void {
    this.#refused.push({ ref, id });
    if (this.#refused.length > 1) return;
    setTimeout(() => {
      const refused = this.#refused.filter((stream) => this.#attached?.admitted.has(stream.id) === false);
      this.#refused = [];
      if (refused.length === 0 || !canDestroySockets()) return;
      void destroySockets(refused.map((stream) => stream.ref)).then(
        (destroyed) =>
          this.#options.log.info({ sessions: destroyed.length }, 'connections without access ended'),
        () => undefined,
      );
    }, REFUSED_BATCH_MS).unref();
  }

  async #sweep({ owners, ownersFile }: Attached): Promise<void> {
    if (owners.size === 0) return;
    const { position } = owners;
    owners.reconcile(await listSockets(this.#ports), position);
    ownersFile.compact(owners);
  }

  /** Somebody else changed users, or a call was lost: the next read-back by the enforcement shows whom. */
  async #compareNumbers(attached: Attached): Promise<void> {
    if (this.#attached !== attached || !attached.synced) return;
    attached.drift = '';
    for (const tag of this.#tags) {
      const held = await attached.api.getInboundUsersCount(tag);
      const expected = attached.admitted.count(tag);
      if (held === expected) continue;
      attached.drift = `Xray holds ${held} users on ${tag} instead of ${expected}; the next read-back repairs it`;
      this.#options.log.warn({ name: tag, rows: held, count: expected }, 'number of users differs');
    }
  }

  /** Without it the routing rule stands alone, so the node serves all the same, and the log says so once. */
  async #raiseFirewall(): Promise<void> {
    let problem = 'no CAP_NET_ADMIN';
    try {
      if (canDestroySockets()) {
        await raiseEgressFirewall(this.#options);
        problem = '';
      }
    } catch (error) {
      problem = error instanceof AppError ? error.message : 'nft failed';
    }
    if (problem !== '' && problem !== this.#firewallProblem) {
      const fields = { reason: problem };
      this.#options.log.warn(
        fields,
        'no egress firewall: a name that changes its address reaches private networks',
      );
    }
    this.#firewallProblem = problem;
  }

  async #dropFirewall(): Promise<void> {
    if (!canDestroySockets()) return;
    await dropEgressFirewall(this.#options.dir).catch((error: unknown) => {
      // It matches nothing without an Xray that sets the mark.
      this.#options.log.warn({ error }, 'the egress firewall was left behind');
    });
  }

  #configInput(): ConfigInput {
    const { inbounds, blockPrivateEgress, allowEgress, dir } = this.#options;
    const mark = canDestroySockets() ? egressMark(dir) : null;
    return { inbounds, blockPrivateEgress, allowEgress, mark, ownAddresses: [], paths: this.#process.paths };
  }

  /** Runs changes one after another, in the order they were asked for. */
  #alone<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#queue.then(work);
    this.#queue = run.catch(() => undefined);
    return run;
  }
}

/** Addresses of this machine, without zones. */
function ownAddresses(): string[] {
  return Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .map(({ address }) => address.replace(/%.*$/, ''));
}
