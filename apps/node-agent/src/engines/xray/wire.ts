// The few protobuf messages of Xray's API that we use, by field number (Xray 26.3.27: app/proxyman/command,
// app/stats/command, app/router/command, common/protocol/user.proto, proxy/vless/account.proto). Pure.
// Xray has no panic recovery: a message without its inner part, or an account of another protocol, kills the
// process and with it every session. So nothing here can be built incomplete.
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import type { XrayUser } from './config.js';

const ADD_USER = 'xray.app.proxyman.command.AddUserOperation';
const REMOVE_USER = 'xray.app.proxyman.command.RemoveUserOperation';
const VLESS_ACCOUNT = 'xray.proxy.vless.Account';
const ROUTER_CONFIG = 'xray.app.router.Config';

export const EMPTY = new Uint8Array(0);

/** TypedMessage {type = 1, value = 2}. */
function typed(type: string, value: Uint8Array): Uint8Array {
  return new BinaryWriter().uint32(10).string(type).uint32(18).bytes(value).finish();
}

/** AlterInboundRequest {tag = 1, operation = 2}. */
function alterInbound(tag: string, operation: Uint8Array): Uint8Array {
  return new BinaryWriter().uint32(10).string(tag).uint32(18).bytes(operation).finish();
}

/** AlterInbound with AddUserOperation {user = 1}; User {level = 1, email = 2, account = 3}. */
export function encodeAddUser(tag: string, user: XrayUser): Uint8Array {
  const account = new BinaryWriter().uint32(10).string(user.vlessId);
  if (user.flow !== '') account.uint32(18).string(user.flow);
  // encryption = 3
  account.uint32(26).string('none');
  const inner = new BinaryWriter()
    .uint32(18)
    .string(user.subscriptionId)
    .uint32(26)
    .bytes(typed(VLESS_ACCOUNT, account.finish()))
    .finish();
  return alterInbound(tag, typed(ADD_USER, new BinaryWriter().uint32(10).bytes(inner).finish()));
}

/** AlterInbound with RemoveUserOperation {email = 1}. */
export function encodeRemoveUser(tag: string, email: string): Uint8Array {
  return alterInbound(tag, typed(REMOVE_USER, new BinaryWriter().uint32(10).string(email).finish()));
}

/** GetInboundUserRequest {tag = 1, email = 2}; an empty email asks for all. */
export function encodeGetUsers(tag: string, email: string): Uint8Array {
  const writer = new BinaryWriter().uint32(10).string(tag);
  if (email !== '') writer.uint32(18).string(email);
  return writer.finish();
}

/** A request of one string in field 1: GetStats, GetStatsOnlineIpList, QueryStats, RemoveRule. Never asks for a reset. */
export function encodeName(name: string): Uint8Array {
  return new BinaryWriter().uint32(10).string(name).finish();
}

/**
 * AddRuleRequest {config = 1, shouldAppend = 2} with one rule {tag = 1, user_email = 7, rule_tag = 19}.
 * shouldAppend is always true: false wipes every rule, the API's own included.
 */
export function encodeAddRule(ruleTag: string, outboundTag: string, emails: readonly string[]): Uint8Array {
  const rule = new BinaryWriter().uint32(10).string(outboundTag);
  for (const email of emails) rule.uint32(58).string(email);
  rule.uint32(154).string(ruleTag);
  const config = new BinaryWriter().uint32(18).bytes(rule.finish()).finish();
  return new BinaryWriter().uint32(10).bytes(typed(ROUTER_CONFIG, config)).uint32(16).bool(true).finish();
}

/** Calls `field` for each field of a message; it must consume the value or return false to skip it. */
function eachField(bytes: Uint8Array, field: (reader: BinaryReader, number: number) => boolean): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    const { pos } = reader;
    if (!field(reader, number)) {
      reader.pos = pos;
      reader.skip(wireType);
    }
  }
}

/** An account as an inbound holds it. `vlessId` is empty when the account is of another protocol. */
export interface HeldUser {
  email: string;
  vlessId: string;
  flow: string;
}

/** GetInboundUserResponse {users = 1}. An unknown email is answered with one empty user, which is left out. */
export function decodeUsers(bytes: Uint8Array): HeldUser[] {
  const users: HeldUser[] = [];
  eachField(bytes, (reader, number) => {
    if (number !== 1) return false;
    const user = decodeUser(reader.bytes());
    if (user.email !== '') users.push(user);
    return true;
  });
  return users;
}

function decodeUser(bytes: Uint8Array): HeldUser {
  const user: HeldUser = { email: '', vlessId: '', flow: '' };
  let type = '';
  let value: Uint8Array = EMPTY;
  eachField(bytes, (reader, number) => {
    if (number === 2) user.email = reader.string();
    else if (number === 3) {
      eachField(reader.bytes(), (inner, innerNumber) => {
        if (innerNumber === 1) type = inner.string();
        else if (innerNumber === 2) value = inner.bytes();
        else return false;
        return true;
      });
    } else return false;
    return true;
  });
  if (type !== VLESS_ACCOUNT) return user;
  eachField(value, (reader, number) => {
    if (number === 1) user.vlessId = reader.string();
    else if (number === 2) user.flow = reader.string();
    else return false;
    return true;
  });
  return user;
}

/** {count = 1 int64}: GetInboundUsersCount. */
export function decodeCount(bytes: Uint8Array): number {
  let count = 0;
  eachField(bytes, (reader, number) => {
    if (number !== 1) return false;
    count = Number(reader.int64());
    return true;
  });
  return count;
}

export interface Stat {
  name: string;
  value: bigint;
}

/** {stat = 1 repeated {name = 1, value = 2}}: GetStats and QueryStats. Names are ASCII, which latin1 decodes fastest. */
export function decodeStats(bytes: Uint8Array): Stat[] {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const stats: Stat[] = [];
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, wireType] = reader.tag();
    if (number !== 1 || wireType !== WireType.LengthDelimited) {
      reader.skip(wireType);
      continue;
    }
    const end = reader.uint32() + reader.pos;
    const stat: Stat = { name: '', value: 0n };
    while (reader.pos < end) {
      const [inner, innerType] = reader.tag();
      if (inner === 1) {
        const size = reader.uint32();
        stat.name = text.toString('latin1', reader.pos, reader.pos + size);
        reader.pos += size;
      } else if (inner === 2) stat.value = BigInt(reader.int64());
      else reader.skip(innerType);
    }
    stats.push(stat);
  }
  return stats;
}

/** GetStatsOnlineIpListResponse {name = 1, ips = 2 map<string, int64>}: the addresses. */
export function decodeOnlineIps(bytes: Uint8Array): string[] {
  const ips: string[] = [];
  eachField(bytes, (reader, number) => {
    if (number !== 2) return false;
    eachField(reader.bytes(), (entry, entryNumber) => {
      if (entryNumber !== 1) return false;
      ips.push(entry.string().replace(/^\[(.*)\]$/, '$1'));
      return true;
    });
    return true;
  });
  return ips;
}

/** ListRuleResponse {rules = 1 {tag = 1, ruleTag = 2}}: the rule tags. */
export function decodeRuleTags(bytes: Uint8Array): string[] {
  const tags: string[] = [];
  eachField(bytes, (reader, number) => {
    if (number !== 1) return false;
    eachField(reader.bytes(), (rule, ruleNumber) => {
      if (ruleNumber !== 2) return false;
      tags.push(rule.string());
      return true;
    });
    return true;
  });
  return tags;
}

/** SysStatsResponse: goroutines = 1, allocated bytes = 3, uptime = 10 (seconds). */
export interface SysStats {
  goroutines: number;
  allocBytes: bigint;
  uptimeSeconds: number;
}

export function decodeSysStats(bytes: Uint8Array): SysStats {
  const stats: SysStats = { goroutines: 0, allocBytes: 0n, uptimeSeconds: 0 };
  eachField(bytes, (reader, number) => {
    if (number === 1) stats.goroutines = reader.uint32();
    else if (number === 3) stats.allocBytes = BigInt(reader.uint64());
    else if (number === 10) stats.uptimeSeconds = reader.uint32();
    else return false;
    return true;
  });
  return stats;
}
