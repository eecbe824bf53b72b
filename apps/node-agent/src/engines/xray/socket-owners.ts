// Which customer holds which connection. Learnt from Xray's access log (access-log.ts), kept only while the kernel
// lists the socket, bounded, never with a destination. Pure memory: lists go in, answers come out.
// Customers behind one address (NAT, a proxy, loopback) can only be told apart here, by port.
import type { SubscriptionId } from '@penstock/domain/ids';
import type { PeerSocket, SocketRef } from './sockets.js';

/** About 40 MB; a node that holds more connections falls back to ending by address for the oldest. */
export const OWNERS_MAX = 200_000;

interface Owner extends SocketRef {
  id: SubscriptionId;
  /** The kernel's cookie, once a list has shown the socket. */
  cookie: string | null;
  /** Order of learning: a list taken before a line came in says nothing about its socket. */
  learnt: number;
}

export class SocketOwners {
  readonly #byKey = new Map<string, Owner>();
  readonly #byId = new Map<SubscriptionId, Set<Owner>>();
  #learnt = 0;

  get size(): number {
    return this.#byKey.size;
  }

  /** Where the list stands; taken before a list of sockets is asked for, given to `reconcile` with it. */
  get position(): number {
    return this.#learnt;
  }

  learn(ref: SocketRef, id: SubscriptionId): void {
    const key = keyOf(ref);
    const known = this.#byKey.get(key);
    this.#learnt += 1;
    if (known?.id === id) {
      known.learnt = this.#learnt;
      // The same customer may have come again from the same port: let the next list say which socket it is.
      known.cookie = null;
      return;
    }
    if (known !== undefined) this.#forget(key, known);
    if (this.#byKey.size >= OWNERS_MAX) {
      const [oldest] = this.#byKey;
      if (oldest !== undefined) this.#forget(...oldest);
    }
    const owner: Owner = { ...ref, id, cookie: null, learnt: this.#learnt };
    this.#byKey.set(key, owner);
    const owned = this.#byId.get(id);
    if (owned === undefined) this.#byId.set(id, new Set([owner]));
    else owned.add(owner);
  }

  /** The customer of a listed socket, or null when no line told. */
  ownerOf(socket: PeerSocket): SubscriptionId | null {
    const owner = this.#byKey.get(keyOf(socket));
    if (owner === undefined || (owner.cookie !== null && owner.cookie !== socket.cookie)) return null;
    return owner.id;
  }

  /** The known connections of a customer. */
  socketsOf(id: SubscriptionId): SocketRef[] {
    return [...(this.#byId.get(id) ?? [])];
  }

  /**
   * Forgets what the kernel no longer lists and ties the rest to the listed sockets. `position` was read before the
   * list was asked for; what was learnt after it is left alone.
   */
  reconcile(live: readonly PeerSocket[], position: number): void {
    const listed = new Map(live.map((socket) => [keyOf(socket), socket]));
    for (const [key, owner] of this.#byKey) {
      if (owner.learnt > position) continue;
      const socket = listed.get(key);
      if (socket === undefined || (owner.cookie !== null && owner.cookie !== socket.cookie))
        this.#forget(key, owner);
      else owner.cookie = socket.cookie;
    }
  }

  /** Everything known, for the file that lets a new agent go on (owners-file.ts). */
  *entries(): Iterable<[SocketRef, SubscriptionId]> {
    for (const owner of this.#byKey.values()) yield [owner, owner.id];
  }

  #forget(key: string, owner: Owner): void {
    this.#byKey.delete(key);
    const owned = this.#byId.get(owner.id);
    owned?.delete(owner);
    if (owned?.size === 0) this.#byId.delete(owner.id);
  }
}

function keyOf({ localPort, address, port }: SocketRef): string {
  return `${localPort} ${address} ${port}`;
}
