import { z } from 'zod';
import { roles } from '@penstock/domain/terms';
import type { TenantId } from '@penstock/domain/ids';
import { id, idText, name } from '../http/fields.js';
import { permissions, type Permission } from '../permissions.js';
import { exampleIds } from '../http/example-ids.js';
import { CODE } from '../totp/codes.js';
import { REFRESH_TOKEN } from './refresh-token.js';

export const PASSWORD_CHARACTERS_MIN = 12;
/** Argon2 reads all of it: longer ones are refused before anything is hashed. */
const PASSWORD_BYTES_MAX = 256;
const EXAMPLE_REFRESH_TOKEN = `psr1.${'x'.repeat(43)}`;

export const email = z
  .string()
  .max(254)
  .transform((value) => value.normalize('NFKC').trim().toLowerCase())
  .pipe(z.email('must be an e-mail address'));

const password = z
  .string()
  .max(PASSWORD_BYTES_MAX)
  .refine(
    (value) => value.isWellFormed() && Buffer.byteLength(value) <= PASSWORD_BYTES_MAX,
    `must be Unicode of at most ${PASSWORD_BYTES_MAX} bytes`,
  );

/** A password that somebody claims to be the right one. */
export const givenPassword = password.min(1);

/** A password to be set. */
export const newPassword = password
  .min(PASSWORD_CHARACTERS_MIN, `must have at least ${PASSWORD_CHARACTERS_MIN} characters`)
  .refine((value) => !/^[\s\p{Z}]*$/u.test(value), 'must not be spaces alone');

/** Six digits of an authenticator app; people type a space in the middle. */
export const code = z
  .string()
  .max(20)
  .transform((value) => value.replace(/\s/g, ''))
  .pipe(z.string().regex(CODE, 'must be six digits'));

export const recoveryCode = z.string().min(1).max(100);

export const signIn = z
  .strictObject({
    email,
    password: givenPassword,
    /** May be left out by an account with one membership. */
    tenantId: id<TenantId>().optional(),
    code: code.optional().meta({ description: 'Of the authenticator app, when one is in force.' }),
    recoveryCode: recoveryCode.optional().meta({ description: 'In place of a code; works once.' }),
  })
  .meta({ examples: [{ email: 'owner@example.org', password: 'correct horse battery' }] });
export type SignIn = z.output<typeof signIn>;

export const refresh = z
  .strictObject({
    refreshToken: z.string().regex(REFRESH_TOKEN, 'must be a refresh token'),
    tenantId: id<TenantId>().optional(),
  })
  .meta({ examples: [{ refreshToken: EXAMPLE_REFRESH_TOKEN }] });
export type Refresh = z.output<typeof refresh>;

export const signOut = z
  .strictObject({ refreshToken: z.string().regex(REFRESH_TOKEN, 'must be a refresh token') })
  .meta({ examples: [{ refreshToken: EXAMPLE_REFRESH_TOKEN }] });

export const switchTenant = z
  .strictObject({ tenantId: id<TenantId>() })
  .meta({ examples: [{ tenantId: exampleIds.tenant }] });

export const tokens = z.strictObject({
  accessToken: z.string(),
  /** Seconds for which the access token is good. */
  expiresIn: z.number().int(),
  refreshToken: z.string(),
  tenantId: idText,
});

export const accessToken = tokens.omit({ refreshToken: true });

const permissionNames = Object.keys(permissions) as [Permission];

export const whoami = z.strictObject({
  account: z.strictObject({ accountId: idText, email: z.string(), displayName: z.string() }),
  tenant: z.strictObject({ tenantId: idText, name: z.string(), platform: z.boolean() }),
  role: z.enum(roles),
  permissions: z.array(z.enum(permissionNames)),
  memberships: z.array(z.strictObject({ tenantId: idText, name: z.string(), role: z.enum(roles) })),
});

export const displayName = name;
