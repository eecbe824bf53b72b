// Environment of control-api. Every secret must be given: there is no default, no fallback and no built-in key, in
// any mode, so two installations never share one and an unset value is an exit and not a weak sign-in.
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { z } from 'zod';
import { address, commonShape, port, secretKey } from '@penstock/service/config';
import { parseAdminCidrs } from '@penstock/service/admin-cidrs';
import { parseCidrs } from '@penstock/service/ops-server';

/** A key of random bytes has about 120 different ones in 256; 32 random bytes have fewer than 16 once in 10^20. */
const DISTINCT_BYTES_MIN = 16;
/** 22 characters of base64url carry 128 bits. */
const SETUP_TOKEN = /^[A-Za-z0-9_-]{22,200}$/;

const dataKey = secretKey.refine(
  (key) => new Set(key).size >= DISTINCT_BYTES_MIN,
  'expected 32 random bytes as base64 (these are not random)',
);

const signingKey = z.string().transform((pem, context): KeyObject => {
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType === 'ec' && key.asymmetricKeyDetails?.namedCurve === 'prime256v1') return key;
  } catch {
    // Told below, without the text: it may be a secret.
  }
  context.addIssue({ code: 'custom', message: 'expected a P-256 private key as PKCS#8 PEM' });
  return z.NEVER;
});

const proxies = z.string().transform((text, context) => {
  try {
    if (text !== '') parseCidrs(text, 'TRUSTED_PROXIES');
    return text === '' ? [] : text.split(',').map((part) => part.trim());
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message });
    return z.NEVER;
  }
});

const admins = z.string().transform((text, context) => {
  try {
    return parseAdminCidrs(text);
  } catch (error) {
    context.addIssue({ code: 'custom', message: (error as Error).message });
    return z.NEVER;
  }
});

const names = z
  .string()
  .regex(/^[A-Za-z0-9.-]{1,253}(,[A-Za-z0-9.-]{1,253})*$/, 'expected host names separated by commas')
  .transform((text) => text.split(','));

const subnet = z.string().regex(/^\d{1,3}(\.\d{1,3}){3}\/\d{1,2}$/, 'expected an IPv4 subnet in CIDR form');

const shape = z.object({
  ...commonShape,
  HTTP_HOST: z.string().default('127.0.0.1'),
  HTTP_PORT: port.default(0),
  /** What people and integrations call us by; the issuer in our tokens. */
  PUBLIC_URL: z.url({ protocol: /^https?$/ }),
  /** Proxies whose X-Forwarded-For is believed; none when empty. */
  TRUSTED_PROXIES: proxies.default([]),
  /** Names beside PUBLIC_URL's under which changes are taken (internal names of a load balancer). */
  ALLOWED_HOSTS: names.default([]),
  /** Addresses that sensitive routes are served to. Must be set in production; else the private ones. */
  ADMIN_CIDRS: admins.optional(),
  /** Limits and hints are shared through it; without one each process keeps its own. */
  REDIS_URL: z.url({ protocol: /^rediss?$/ }).optional(),
  /** Widens or narrows the general rate limits (limits/limits.ts), never those against guessing. */
  RATE_LIMIT_FACTOR: z.coerce.number().min(0.01).max(10_000).default(1),
  DATABASE_URL: z.string().min(1),
  DATABASE_CONNECTIONS: z.coerce.number().int().min(1).max(100).default(10),
  DATA_KEY: dataKey,
  JWT_KEY: signingKey,
  /** One-time secret of the set-up link; its hash is stored while there is no owner. */
  SETUP_TOKEN: z.string().regex(SETUP_TOKEN, 'expected at least 22 characters of base64url').optional(),
  SCHEDULER_ADDRESS: address,
  NODE_ENROLL_ADDRESS: address,
  NODE_ENFORCEMENT_ADDRESS: address,
  NODE_USAGE_ADDRESS: address,
  /** 1: keep a shared node called "local" registered and a join token for it in LOCAL_NODE_TOKEN_FILE. */
  LOCAL_NODE: z.enum(['0', '1']).default('0'),
  LOCAL_NODE_ADDRESS: z.string().default('127.0.0.1'),
  LOCAL_NODE_XRAY_PORT: port.default(20443),
  LOCAL_NODE_WG_PORT: port.default(51820),
  LOCAL_NODE_WG_SUBNET: subnet.default('10.66.0.0/16'),
  LOCAL_NODE_TOKEN_FILE: z.string().optional(),
});

export const configSchema = shape.superRefine(({ NODE_ENV, ADMIN_CIDRS }, context) => {
  if (NODE_ENV === 'production' && ADMIN_CIDRS === undefined)
    context.addIssue({
      code: 'custom',
      path: ['ADMIN_CIDRS'],
      message: 'expected CIDRs separated by commas',
    });
});

export type Config = Readonly<z.output<typeof configSchema>>;
