// What each process is started with: its program, environment and addresses, from the stack's ports, secrets and
// trust. Secrets are named by file. Pure; called by stack.ts.
import { join } from 'node:path';
import type { StackPaths } from './paths.js';
import type { StackSecrets } from './secrets.js';
import type { ProcessSpec } from './supervised.js';
import { serviceTls, type ServiceName } from './trust.js';

export interface StackContext {
  paths: StackPaths;
  secrets: StackSecrets;
  trustDomain: string;
  nodeEnv: 'production' | 'development' | 'test';
  logLevel: string;
  /** What every process gets: PATH, HOME and the like. */
  baseEnv: Readonly<Record<string, string>>;
  publicUrl: string;
  httpHost: string;
  /** Address that the services' node edges listen on. */
  grpcHost: string;
  redisUrlFile: string | undefined;
  /** Where sensitive routes are served to. */
  adminCidrs: readonly string[];
  /** Where nodes connect to. */
  nodeAddresses: { enroll: string; enforcement: string; usage: string };
  behindCaddy: boolean;
  localNode: { tokenFile: string; xrayPort: number; wireguardPort: number; address: string } | undefined;
}

export interface AgentSpec {
  /** Unique in the stack; the process is called `node-agent` for `local`, else `node-agent-NAME`. */
  name: string;
  /** File with a join token; left out once the agent has a certificate. */
  joinTokenFile?: string | undefined;
  engines: readonly ('xray' | 'wireguard')[];
  xrayBin?: string | undefined;
  wireguardGoBin?: string | undefined;
  /** Further or other variables (WINDOW_MS, ALLOW_EGRESS, WG_INTERFACE, BUFFER_MODE …). */
  env?: Readonly<Record<string, string>>;
  /** Runs inside this network namespace. Its ops port must be reachable from here: see opsHost. */
  netns?: string | undefined;
  opsHost?: string | undefined;
}

export function agentProcessName(name: string): string {
  return name === 'local' ? 'node-agent' : `node-agent-${name}`;
}

export function databaseUrlFile(paths: StackPaths, role: string): string {
  return join(paths.secrets, 'database', `${role}.url`);
}

export function controlApiSpec(
  context: StackContext,
  name: string,
  httpPort: number,
  scheduler: string,
  opsPort: number,
): ProcessSpec {
  const { paths, secrets, nodeAddresses, localNode } = context;
  const env: Record<string, string> = {
    HTTP_HOST: context.httpHost,
    HTTP_PORT: String(httpPort),
    PUBLIC_URL: context.publicUrl,
    DATABASE_URL_FILE: databaseUrlFile(paths, 'penstock_control_api'),
    DATA_KEY_FILE: secrets.dataKeyFile,
    JWT_KEY_FILE: secrets.jwtKeyFile,
    SETUP_TOKEN_FILE: secrets.setupTokenFile,
    SCHEDULER_ADDRESS: scheduler,
    NODE_ENROLL_ADDRESS: nodeAddresses.enroll,
    NODE_ENFORCEMENT_ADDRESS: nodeAddresses.enforcement,
    NODE_USAGE_ADDRESS: nodeAddresses.usage,
    ADMIN_CIDRS: context.adminCidrs.join(','),
  };
  if (context.redisUrlFile !== undefined) env['REDIS_URL_FILE'] = context.redisUrlFile;
  if (context.behindCaddy) env['TRUSTED_PROXIES'] = '127.0.0.0/8';
  if (localNode !== undefined) {
    env['LOCAL_NODE'] = '1';
    env['LOCAL_NODE_ADDRESS'] = localNode.address;
    env['LOCAL_NODE_XRAY_PORT'] = String(localNode.xrayPort);
    env['LOCAL_NODE_WG_PORT'] = String(localNode.wireguardPort);
    env['LOCAL_NODE_TOKEN_FILE'] = localNode.tokenFile;
  }
  return service(context, 'control-api', name, env, opsPort);
}

export function schedulerSpec(
  context: StackContext,
  name: string,
  grpcPort: number,
  enrollPort: number,
  opsPort: number,
): ProcessSpec {
  const env = {
    GRPC_HOST: context.grpcHost,
    GRPC_PORT: String(grpcPort),
    ENROLL_HOST: context.grpcHost,
    ENROLL_PORT: String(enrollPort),
    DATABASE_URL_FILE: databaseUrlFile(context.paths, 'penstock_scheduler'),
    PARTITIONS_DATABASE_URL_FILE: databaseUrlFile(context.paths, 'penstock_partitions'),
    DATA_KEY_FILE: context.secrets.dataKeyFile,
    CA_DIR: join(context.paths.trust, 'ca'),
    AUDIT_HEADS_FILE: join(context.paths.dir, 'audit-heads.ndjson'),
  };
  return service(context, 'scheduler', name, env, opsPort);
}

export function collectorSpec(
  context: StackContext,
  name: string,
  grpcPort: number,
  opsPort: number,
): ProcessSpec {
  const env = {
    GRPC_HOST: context.grpcHost,
    GRPC_PORT: String(grpcPort),
    DATABASE_URL_FILE: databaseUrlFile(context.paths, 'penstock_collector'),
  };
  return service(context, 'collector', name, env, opsPort);
}

export function agentSpec(context: StackContext, agent: AgentSpec, opsPort: number): ProcessSpec {
  const { paths } = context;
  const opsHost = agent.opsHost ?? '127.0.0.1';
  const env: Record<string, string> = {
    ...common(context, opsHost, opsPort),
    AGENT_DIR: join(paths.agents, agent.name),
    ENGINES: agent.engines.join(','),
    BUFFER_MODE: 'wal',
    ...agent.env,
  };
  if (agent.joinTokenFile !== undefined) env['JOIN_TOKEN_FILE'] = agent.joinTokenFile;
  if (agent.xrayBin !== undefined) env['XRAY_BIN'] = agent.xrayBin;
  if (agent.wireguardGoBin !== undefined) env['WIREGUARD_GO_BIN'] = agent.wireguardGoBin;
  const program = [process.execPath, entry(paths, 'node-agent')] as const;
  return {
    name: agentProcessName(agent.name),
    command: agent.netns === undefined ? program : ['ip', 'netns', 'exec', agent.netns, ...program],
    env,
    cwd: paths.dir,
    opsUrl: `http://${opsHost}:${opsPort}`,
    stopGraceMs: 20_000,
  };
}

export function caddySpec(
  context: StackContext,
  program: string,
  configFile: string,
  metricsPort: number,
): ProcessSpec {
  const { paths } = context;
  return {
    name: 'caddy',
    command: [program, 'run', '--config', configFile, '--adapter', 'caddyfile'],
    env: { ...context.baseEnv, HOME: paths.caddy, XDG_DATA_HOME: paths.caddy, XDG_CONFIG_HOME: paths.caddy },
    cwd: paths.caddy,
    readyUrl: `http://127.0.0.1:${metricsPort}/ready`,
  };
}

function service(
  context: StackContext,
  app: ServiceName,
  name: string,
  env: Record<string, string>,
  opsPort: number,
): ProcessSpec {
  const tls = serviceTls(context.paths.trust, app);
  return {
    name,
    command: [process.execPath, entry(context.paths, app)],
    env: {
      ...common(context, '127.0.0.1', opsPort),
      TLS_CERT_FILE: tls.cert,
      TLS_KEY_FILE: tls.key,
      TLS_ROOT_FILE: tls.root,
      ...env,
    },
    cwd: context.paths.dir,
    opsUrl: `http://127.0.0.1:${opsPort}`,
  };
}

function common(context: StackContext, opsHost: string, opsPort: number): Record<string, string> {
  return {
    ...context.baseEnv,
    NODE_ENV: context.nodeEnv,
    LOG_LEVEL: context.logLevel,
    OPS_HOST: opsHost,
    OPS_PORT: String(opsPort),
    TRUST_DOMAIN: context.trustDomain,
  };
}

function entry(paths: StackPaths, app: string): string {
  return join(paths.repo, 'apps', app, 'dist', 'main.js');
}
