// What each inbound holds, as last asked from Xray and changed since by our own calls. Pure memory: differences are
// computed from it, so that a change costs calls for what changed and nothing else.
import { ZERO_ID } from '@penstock/domain/ids';
import type { Access, XrayAccess } from '@penstock/domain/access';
import type { SubscriptionId, TenantId } from '@penstock/domain/ids';
import { AppError } from '@penstock/domain/errors';
import { isUuid, maskedId, userOf } from './config.js';
import type { XrayInbound, XrayUser } from './config.js';
import type { HeldUser } from './wire.js';

type Credential = Pick<HeldUser, 'vlessId' | 'flow'>;

export class Admitted {
  readonly #inbounds: readonly XrayInbound[];
  readonly #byTag = new Map<string, Map<SubscriptionId, Credential>>();
  /** Masked VLESS id → its subscription: Xray would silently give the id to whoever came last. */
  readonly #takenBy = new Map<string, SubscriptionId>();
  readonly #tenants = new Map<SubscriptionId, TenantId>();

  constructor(inbounds: readonly XrayInbound[]) {
    this.#inbounds = inbounds;
    for (const { tag } of inbounds) this.#byTag.set(tag, new Map());
  }

  /** Takes what Xray says an inbound holds. */
  replace(tag: string, users: readonly HeldUser[]): void {
    const held = this.#held(tag);
    held.clear();
    for (const user of users) if (isUuid(user.email)) held.set(user.email as SubscriptionId, user);
    this.#takenBy.clear();
    for (const map of this.#byTag.values()) {
      for (const [id, { vlessId }] of map) this.#takenBy.set(maskedId(vlessId), id);
    }
  }

  add(tag: string, user: XrayUser): void {
    this.#held(tag).set(user.subscriptionId, { vlessId: user.vlessId, flow: user.flow });
    this.#takenBy.set(maskedId(user.vlessId), user.subscriptionId);
  }

  remove(tag: string, id: SubscriptionId): void {
    const held = this.#held(tag);
    const credential = held.get(id);
    if (credential === undefined) return;
    held.delete(id);
    const elsewhere = [...this.#byTag.values()].some((map) => map.get(id)?.vlessId === credential.vlessId);
    if (!elsewhere) this.#takenBy.delete(maskedId(credential.vlessId));
  }

  /** True when any inbound lets him in. */
  has(id: SubscriptionId): boolean {
    for (const map of this.#byTag.values()) if (map.has(id)) return true;
    return false;
  }

  holds(tag: string, user: XrayUser): boolean {
    const credential = this.#held(tag).get(user.subscriptionId);
    return credential?.vlessId === user.vlessId && credential.flow === user.flow;
  }

  /** True when an inbound holds something else for him than this. */
  differs(id: SubscriptionId, xray: XrayAccess | undefined): boolean {
    return this.#inbounds.some((inbound) => {
      const held = this.#held(inbound.tag).get(id);
      if (held === undefined) return false;
      if (xray === undefined) return true;
      const user = userOf(inbound, id, xray);
      return held.vlessId !== user.vlessId || held.flow !== user.flow;
    });
  }

  /** How many customers an inbound should hold. */
  count(tag: string): number {
    return this.#held(tag).size;
  }

  ids(): Set<SubscriptionId> {
    return new Set([...this.#byTag.values()].flatMap((map) => [...map.keys()]));
  }

  remember(id: SubscriptionId, tenantId: TenantId): void {
    this.#tenants.set(id, tenantId);
  }

  forget(id: SubscriptionId): void {
    this.#tenants.delete(id);
  }

  /** Refuses changes after which two subscriptions would share a VLESS id, as Xray looks it up. */
  refuseSharedIds(changes: ReadonlyMap<SubscriptionId, Access>): void {
    const claimed = new Map<string, SubscriptionId>();
    for (const [id, { xray }] of changes) {
      if (xray === undefined) continue;
      const masked = maskedId(xray.vlessId);
      const holder = this.#takenBy.get(masked);
      const stays = holder !== undefined && !changes.has(holder) ? holder : undefined;
      const other = claimed.get(masked) ?? stays;
      if (other !== undefined && other !== id) {
        throw new AppError('invalid_input', 'two subscriptions would share a VLESS id', {
          field: 'xray.vlessId',
        });
      }
      claimed.set(masked, id);
    }
  }

  /**
   * What Xray admits, as access. Someone whom the inbounds hold differently, or only some of them, is there without
   * a credential: he is admitted, but as nobody can have wished.
   */
  asAccess(): Map<SubscriptionId, Access> {
    const result = new Map<SubscriptionId, Access>();
    for (const subscriptionId of this.ids()) {
      const access: Access = {
        tenantId: this.#tenants.get(subscriptionId) ?? (ZERO_ID as TenantId),
        subscriptionId,
      };
      const xray = this.#credential(subscriptionId);
      if (xray !== null) access.xray = xray;
      result.set(subscriptionId, access);
    }
    return result;
  }

  #credential(id: SubscriptionId): XrayAccess | null {
    const all = this.#inbounds.map(({ tag, security }) => ({ security, held: this.#held(tag).get(id) }));
    const vlessId = all[0]?.held?.vlessId ?? '';
    const flow =
      all.find(({ security }) => security === 'reality')?.held?.flow === 'xtls-rprx-vision'
        ? 'xtls-rprx-vision'
        : '';
    const xray: XrayAccess = { vlessId, flow };
    const same = this.#inbounds.every((inbound) => this.holds(inbound.tag, userOf(inbound, id, xray)));
    return same ? xray : null;
  }

  #held(tag: string): Map<SubscriptionId, Credential> {
    const held = this.#byTag.get(tag);
    if (held === undefined) throw new AppError('internal', 'an unknown inbound was asked for');
    return held;
  }
}
