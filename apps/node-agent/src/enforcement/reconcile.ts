// Pure decisions of enforcement: what a change means for each engine, and whether what the engines hold is what was
// asked for. Effects are in apply.ts.
import type { Access } from '@penstock/domain/access';
import type { SubscriptionId } from '@penstock/domain/ids';
import type { Engine as EngineName } from '@penstock/domain/terms';
import { blake3Digest } from '@penstock/ledger/digest';
import { stateDigest } from '@penstock/ledger/state-digest';
import type { EngineState } from '../engines/engine.js';
import type { DesiredEntry } from './access-codec.js';

/** Does this access include the engine? */
export function usesEngine(access: Access, engine: EngineName): boolean {
  return engine === 'xray' ? access.xray !== undefined : (access.wireguard?.length ?? 0) > 0;
}

export interface EngineSteps {
  /** Access ends here: open sessions too. */
  cut: SubscriptionId[];
  apply: Access[];
}

/**
 * Steps for one engine on the way from `before` to `after`. `removals`: subscriptions that lose all access; one
 * that merely loses this engine is cut here too.
 */
export function engineSteps(
  engine: EngineName,
  before: ReadonlyMap<SubscriptionId, DesiredEntry>,
  upserts: readonly DesiredEntry[],
  removals: readonly SubscriptionId[],
): EngineSteps {
  const cut: SubscriptionId[] = [];
  const apply: Access[] = [];
  for (const id of removals) {
    const known = before.get(id);
    // Unknown here: cut all the same, so that a stray user in the engine ends too.
    if (known === undefined || usesEngine(known.access, engine)) cut.push(id);
  }
  for (const { access } of upserts) {
    const known = before.get(access.subscriptionId);
    if (usesEngine(access, engine)) apply.push(access);
    else if (known !== undefined && usesEngine(known.access, engine)) cut.push(access.subscriptionId);
  }
  return { cut, apply };
}

/** True when the engine holds exactly what the access says for it. */
export function isAdmittedAs(engine: EngineName, wanted: Access, held: Access | undefined): boolean {
  if (!usesEngine(wanted, engine)) return held === undefined || !usesEngine(held, engine);
  if (held === undefined) return false;
  if (engine === 'xray') {
    return held.xray?.vlessId === wanted.xray?.vlessId && held.xray?.flow === wanted.xray?.flow;
  }
  const canonical = (access: Access): string =>
    JSON.stringify(
      (access.wireguard ?? [])
        .map((peer) => [peer.publicKey, peer.presharedKey, [...peer.allowedIps].sort()])
        .sort((a, b) => String(a[0]).localeCompare(String(b[0]))),
    );
  return canonical(held) === canonical(wanted);
}

/**
 * Digest of what was read back: the entry's own where every engine that runs here holds it as asked, a mark
 * otherwise; a user nobody asked for changes the digest as well. An entry that no engine here can take is `refused`: it
 * is told with its reason, and as long as nobody is admitted under it nothing about the node differs.
 */
export function readBackDigest(
  config: Uint8Array,
  desired: ReadonlyMap<SubscriptionId, DesiredEntry>,
  states: ReadonlyMap<EngineName, EngineState>,
  refused: (access: Access) => boolean,
): { digest: Buffer; differing: SubscriptionId[] } {
  const digests = new Map<string, Buffer>();
  const differing: SubscriptionId[] = [];
  for (const [id, entry] of desired) {
    let same = true;
    if (refused(entry.access)) same = ![...states.values()].some((state) => state.admitted.has(id));
    else
      for (const [engine, state] of states)
        same &&= isAdmittedAs(engine, entry.access, state.admitted.get(id));
    if (!same) differing.push(id);
    digests.set(hexId(id), same ? entry.digest : blake3Digest(entry.digest, Buffer.from('differs')));
  }
  for (const state of states.values()) {
    for (const id of state.admitted.keys()) {
      if (desired.has(id)) continue;
      differing.push(id);
      digests.set(hexId(id), blake3Digest(Buffer.from(`stray ${id}`)));
    }
  }
  return { digest: stateDigest(config, digests), differing };
}

function hexId(id: SubscriptionId): string {
  return id.replaceAll('-', '');
}
