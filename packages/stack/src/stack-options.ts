// What a stack can be asked for, and what a running one offers. Types only; stack.ts does the work.
import type { ServiceRole } from '@penstock/db/migrate';
import type { EdgeUrls } from './endpoints.js';
import type { StackPaths } from './paths.js';
import type { PostgresServer } from './postgres.js';
import type { StackSecrets } from './secrets.js';
import type { AgentSpec } from './specs.js';
import type { Supervised } from './supervised.js';

export interface StackOptions {
  /** Keeps everything of the stack; made when missing (its parent must exist). */
  dir: string;
  edge?: 'direct' | 'caddy';
  /** Start a process again when it dies. Tests that kill switch it off. Default true. */
  autoRestart?: boolean;
  schedulers?: number;
  collectors?: number;
  /** Register this machine as the node "local" (its agent is added by addAgent with joinTokenFile localTokenFile). */
  localNode?: boolean | { address: string };
  /** Ports that the operator asks for; picked and remembered otherwise. */
  ports?: {
    api?: number | undefined;
    /** Taken when it is free: for the one stack of a machine that people open. */
    apiPreferred?: number;
    postgresql?: number | undefined;
  };
  /** Address that the API listens on. */
  httpHost?: string;
  /** Address that the edges for nodes listen on; default 127.0.0.1. */
  edgeHost?: string;
  /** DNS name by which nodes reach the edges; default localhost. */
  edgeName?: string;
  /** What people call the API by; default http://127.0.0.1:PORT. */
  publicUrl?: string | undefined;
  redisUrl?: string | undefined;
  trustDomain?: string;
  /** DNS names of the services' certificates beside localhost. */
  dnsNames?: readonly string[];
  nodeEnv?: 'production' | 'development' | 'test';
  logLevel?: string;
  /** Further variables by process name (`collector-2`) or by kind (`collector`). */
  env?: Readonly<Record<string, Readonly<Record<string, string>>>>;
  /** PATH and HOME of the processes; our own by default. */
  baseEnv?: Readonly<Record<string, string>>;
  postgresSettings?: Readonly<Record<string, string>>;
  /** Kill the services (not PostgreSQL) when this process exits without stop(). Default true. */
  killOnExit?: boolean;
  /** One line at each step; default silent. */
  say?: (line: string) => void;
}

export interface Stack {
  readonly paths: StackPaths;
  readonly secrets: StackSecrets;
  readonly postgres: PostgresServer;
  readonly edges: EdgeUrls;
  /** Port by name: `api`, `scheduler`, `scheduler-enroll`, `collector`, `caddy-metrics`, `scheduler-ops` … */
  readonly ports: Readonly<Record<string, number>>;
  /** The file that control-api writes the local node's join token to. */
  readonly localTokenFile: string;
  /** True when the last look said that no owner exists yet. */
  readonly setupNeeded: boolean;
  readonly setupUrl: string;
  /** Address of the product's database for one of the login roles. */
  databaseUrl(role: ServiceRole): string;
  superuserUrl(): string;
  /** `postgresql` is not among them. */
  processNames(): string[];
  process(name: string): Supervised;
  /** A fault; `postgresql` too. With SIGKILL it resolves when the process is gone. */
  kill(name: string, signal?: NodeJS.Signals): Promise<void>;
  /** Starts a process that is down, or stops and starts it; resolves when it is ready. `postgresql` too. */
  restart(name: string, env?: Readonly<Record<string, string | undefined>>): Promise<void>;
  /** Starts an agent and waits for its readiness, unless `wait` is false. */
  addAgent(agent: AgentSpec, wait?: boolean): Promise<Supervised>;
  /** Stops everything in order. */
  stop(): Promise<void>;
  /** Stops everything and removes its data. */
  destroy(): Promise<void>;
}
