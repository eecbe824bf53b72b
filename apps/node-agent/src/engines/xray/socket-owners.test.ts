import { describe, expect, test } from 'vitest';
import { newId } from '@penstock/domain/ids';
import type { SubscriptionId } from '@penstock/domain/ids';
import { OWNERS_MAX, SocketOwners } from './socket-owners.js';
import type { PeerSocket } from './sockets.js';

const [one, other] = [newId<SubscriptionId>(), newId<SubscriptionId>()];

function socket(port: number, cookie = `sk:${port}`, localPort = 443): PeerSocket {
  return { localPort, address: '1.2.3.4', port, cookie };
}

describe('who holds which socket', () => {
  test('two customers behind one address are told apart by port, two inbounds by theirs', () => {
    const owners = new SocketOwners();
    owners.learn(socket(1), one);
    owners.learn(socket(2), other);
    owners.learn(socket(1, '', 8443), other);
    expect(
      [socket(1), socket(2), socket(3), socket(1, 'x', 8443)].map((some) => owners.ownerOf(some)),
    ).toEqual([one, other, null, other]);
    expect(owners.socketsOf(one).map(({ port }) => port)).toEqual([1]);
  });

  test('a closed connection is forgotten, one learnt after the list is not', () => {
    const owners = new SocketOwners();
    owners.learn(socket(1), one);
    owners.learn(socket(2), one);
    const { position } = owners;
    owners.learn(socket(3), one);
    owners.reconcile([socket(2)], position);
    expect(owners.socketsOf(one).map(({ port }) => port)).toEqual([2, 3]);
    owners.reconcile([], owners.position);
    expect(owners.size).toBe(0);
    expect(owners.socketsOf(one)).toEqual([]);
  });

  test('a reused port is not its predecessor’s, unless a line says whose it is', () => {
    const owners = new SocketOwners();
    owners.learn(socket(1), one);
    owners.reconcile([socket(1, 'sk:a')], owners.position);
    expect(owners.ownerOf(socket(1, 'sk:b'))).toBeNull();
    owners.learn(socket(1), one);
    expect(owners.ownerOf(socket(1, 'sk:b'))).toBe(one);
    owners.learn(socket(1), other);
    expect(owners.ownerOf(socket(1, 'sk:c'))).toBe(other);
    expect(owners.socketsOf(one)).toEqual([]);
    owners.reconcile([socket(1, 'sk:c')], owners.position);
    owners.reconcile([socket(1, 'sk:d')], owners.position);
    expect(owners.size).toBe(0);
  });

  test('it is bounded: the oldest goes', () => {
    const owners = new SocketOwners();
    for (let port = 0; port <= OWNERS_MAX; port += 1) owners.learn(socket(port), one);
    expect(owners.size).toBe(OWNERS_MAX);
    expect(owners.ownerOf(socket(0))).toBeNull();
  });
});
