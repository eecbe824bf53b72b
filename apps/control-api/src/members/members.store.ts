// Who is what in the acting tenant. Everything that changes it holds the tenant's row (lockTenant): the rules about
// roles are judged on what stands, never on what a token or a cache said.
import { AppError } from '@penstock/domain/errors';
import type { AccountId } from '@penstock/domain/ids';
import type { Role } from '@penstock/domain/terms';
import { run, statement } from '@penstock/db/statement';
import type { Acting } from '../database.js';
import type { MemberQuery } from './members.schema.js';

export interface Member {
  accountId: AccountId;
  email: string;
  displayName: string;
  role: Role;
  disabled: boolean;
  version: number;
  createdAt: Date;
}

const COLUMNS = `m.account_id AS "accountId", a.email, a.display_name AS "displayName", m.role,
  a.disabled_at IS NOT NULL AS disabled, m.version, m.created_at AS "createdAt"`;

const selectPage = statement<Member>(
  'member.page',
  `SELECT ${COLUMNS} FROM member m JOIN account a ON a.account_id = m.account_id
    WHERE m.tenant_id = $1 AND ($2::uuid IS NULL OR m.account_id > $2) AND ($3::text IS NULL OR m.role = $3)
    ORDER BY m.account_id LIMIT $4`,
);

/** One row more than a page holds. */
export function listMembers({ actor, client }: Acting, query: MemberQuery): Promise<Member[]> {
  const { cursor, role, limit } = query;
  return run(client, selectPage, [actor.tenantId, cursor ?? null, role ?? null, limit + 1]);
}

const selectOne = statement<Member>(
  'member.get',
  `SELECT ${COLUMNS} FROM member m JOIN account a ON a.account_id = m.account_id
    WHERE m.tenant_id = $1 AND m.account_id = $2`,
);

/** null when the account is no member of the acting tenant. */
export async function findMember({ actor, client }: Acting, id: AccountId): Promise<Member | null> {
  return (await run(client, selectOne, [actor.tenantId, id]))[0] ?? null;
}

/** Throws not_found, also for a member of another tenant alone. */
export async function getMember(acting: Acting, id: AccountId): Promise<Member> {
  const member = await findMember(acting, id);
  if (member === null) throw new AppError('not_found', 'there is no such member');
  return member;
}

// A place in the platform tenant reaches every tenant.
const selectRoles = statement<{ own: Role | null; platform: Role | null }>(
  'member.roles_of_actor',
  `SELECT (SELECT m.role FROM member m WHERE m.tenant_id = $1 AND m.account_id = a.account_id) AS own,
          (SELECT m.role FROM member m JOIN platform p ON p.tenant_id = m.tenant_id
            WHERE m.account_id = a.account_id) AS platform
     FROM account a WHERE a.account_id = $2 AND a.disabled_at IS NULL`,
);

/** Roles of the actor as they stand in this transaction; none when the account was closed or sent away. */
export async function rolesOfActor({ actor, client }: Acting): Promise<Role[]> {
  if (actor.accountId === null) return [actor.role];
  const [row] = await run(client, selectRoles, [actor.tenantId, actor.accountId]);
  const platform = actor.confined === true ? null : row?.platform;
  return [row?.own, platform].filter((role): role is Role => role !== null && role !== undefined);
}

const updateRole = statement(
  'member.set_role',
  `UPDATE member SET role = $3, version = version + 1 WHERE tenant_id = $1 AND account_id = $2`,
);

export async function setMemberRole({ actor, client }: Acting, id: AccountId, role: Role): Promise<void> {
  await run(client, updateRole, [actor.tenantId, id, role]);
}

const insertRow = statement(
  'member.insert',
  `INSERT INTO member (tenant_id, account_id, role, created_at) VALUES ($1, $2, $3, $4)`,
);

export async function insertMember({ actor, client, at }: Acting, id: AccountId, role: Role): Promise<void> {
  await run(client, insertRow, [actor.tenantId, id, role, at]);
}

const deleteRow = statement('member.delete', `DELETE FROM member WHERE tenant_id = $1 AND account_id = $2`);

export async function deleteMember({ actor, client }: Acting, id: AccountId): Promise<void> {
  await run(client, deleteRow, [actor.tenantId, id]);
}
