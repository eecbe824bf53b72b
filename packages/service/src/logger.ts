// One JSON line an event: ts, level, service, msg and fields from an allow-list. A field that is not on the list is
// dropped in production and refused in tests, so no secret or payload gets here by accident. Ids are shortened at
// info and above.
import pino from 'pino';
import { isErrorCode } from '@penstock/domain/errors';

export interface Logger {
  debug(fields: LogFields, msg: string): void;
  info(fields: LogFields, msg: string): void;
  warn(fields: LogFields, msg: string): void;
  error(fields: LogFields, msg: string): void;
  child(fields: LogFields): Logger;
}

export type LogFields = Record<string, unknown>;

const idFields = new Set([
  'tenantId',
  'userId',
  'accountId',
  'nodeId',
  'subscriptionId',
  'deviceId',
  'planId',
  'sessionId',
]);
const plainFields = new Set([
  ...[
    'requestId',
    'traceId',
    'peerAddr',
    'peer',
    'method',
    'route',
    'status',
    'durationMs',
    'code',
    'reason',
    'field',
  ],
  ...[
    'revision',
    'base',
    'fence',
    'epoch',
    'seq',
    'digest',
    'count',
    'bytes',
    'rows',
    'frames',
    'upserts',
    'removals',
  ],
  ...[
    'engine',
    'engines',
    'version',
    'pid',
    'port',
    'host',
    'address',
    'path',
    'task',
    'attempt',
    'delayMs',
    'ms',
  ],
  ...[
    'state',
    'signal',
    'exitCode',
    'queue',
    'worker',
    'step',
    'name',
    'kind',
    'cause',
    'boot',
    'interface',
    'mode',
  ],
  ...[
    'partitions',
    'watermark',
    'windowMs',
    'skewMs',
    'sessions',
    'ended',
    'cutMs',
    'provenMs',
    'serial',
    'action',
  ],
  ...['role', 'database', 'url', 'edge', 'limit', 'retryAfterMs', 'notAfter', 'channel', 'segment', 'offset'],
]);

const strict = process.env['NODE_ENV'] === 'test' || process.env['VITEST'] !== undefined;

function describeError(error: unknown, withStack: boolean): Record<string, unknown> {
  if (!(error instanceof Error)) return { name: typeof error, message: String(error).slice(0, 500) };
  const code = (error as { code?: unknown }).code;
  return {
    name: error.name,
    message: error.message.slice(0, 500),
    ...(typeof code === 'string' || typeof code === 'number' ? { code } : {}),
    ...(error.cause === undefined ? {} : { cause: describeError(error.cause, false) }),
    ...(withStack || !isErrorCode(code) ? { stack: error.stack?.split('\n').slice(1, 7).join('\n') } : {}),
  };
}

function clean(fields: LogFields, shorten: boolean): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    if (key === 'error') out['error'] = describeError(value, !shorten);
    else if (idFields.has(key))
      out[key] = shorten && typeof value === 'string' ? value.slice(0, 8) + '…' + value.slice(-4) : value;
    else if (plainFields.has(key)) out[key] = typeof value === 'bigint' ? value.toString() : value;
    else if (strict)
      throw new TypeError(`log field ${key} is not on the list (packages/service/src/logger.ts)`);
  }
  return out;
}

/** `sink` is for tests; the default is standard output. */
export function createLogger(service: string, level: string = 'info', sink?: pino.DestinationStream): Logger {
  const options: pino.LoggerOptions = {
    level,
    base: { service },
    timestamp: () => `,"ts":"${new Date().toISOString()}"`,
    formatters: { level: (label) => ({ level: label }) },
  };
  return wrap(sink === undefined ? pino(options) : pino(options, sink));
}

function wrap(inner: pino.Logger): Logger {
  return {
    debug: (fields, msg) => {
      if (inner.isLevelEnabled('debug')) inner.debug(clean(fields, false), msg);
    },
    info: (fields, msg) => {
      if (strict || inner.isLevelEnabled('info')) inner.info(clean(fields, true), msg);
    },
    warn: (fields, msg) => {
      if (strict || inner.isLevelEnabled('warn')) inner.warn(clean(fields, true), msg);
    },
    error: (fields, msg) => inner.error(clean(fields, true), msg),
    child: (fields) => wrap(inner.child(clean(fields, true))),
  };
}
