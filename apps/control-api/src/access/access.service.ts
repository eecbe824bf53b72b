// A customer's credentials for each node, derived anew for each answer. They are shown to those who may read secrets,
// with no-store, and each look is audited.
import { Injectable } from '@nestjs/common';
import { presharedKey, vlessId } from '@penstock/domain/credentials';
import { AppError } from '@penstock/domain/errors';
import type { NodeId, SubscriptionId } from '@penstock/domain/ids';
import type { Engine } from '@penstock/domain/terms';
import { openSecret } from '@penstock/service/secret-box';
import { appendAudit } from '../audit/audit.store.js';
import { Context } from '../context.js';
import { Database } from '../database.js';
import { privateKeyPlace } from '../devices/device-keys.js';
import type { Actor } from '../http/actor.js';
import { secretPlace } from '../subscriptions/subscriptions.service.js';
import * as store from './access.store.js';
import { VISION, vlessUri, wireguardConf } from './client-config.js';

const RETRY_AFTER_MS = 1_000;

export interface Access {
  items: NodeAccess[];
  missingEngines: Engine[];
}

export interface NodeAccess {
  nodeId: NodeId;
  nodeName: string;
  address: string;
  vless: { tag: string; uri: string }[];
  wireguard: { deviceId: string; deviceName: string; tag: string; conf: string }[];
}

@Injectable()
export class AccessService {
  constructor(
    private readonly context: Context,
    private readonly database: Database,
  ) {}

  /** Throws not_found, or pending while a device has no address on one of its nodes. */
  get(actor: Actor, subscriptionId: SubscriptionId): Promise<Access> {
    return this.database.transaction(actor, async (acting) => {
      const subscription = await store.findSecret(acting, subscriptionId);
      if (subscription === null) throw new AppError('not_found', 'there is no such subscription');
      const { DATA_KEY } = this.context.config;
      const secret = openSecret(DATA_KEY, subscription.secret, secretPlace(actor.tenantId, subscriptionId));
      const inbounds = await store.listServingInbounds(acting, subscriptionId);
      const devices = await store.listDeviceSecrets(acting, subscriptionId);
      const addresses = await store.listAddresses(
        acting,
        devices.map((device) => device.deviceId),
      );
      const keys = new Map(
        devices.map(({ deviceId, privateKey }) => [
          deviceId,
          privateKey === null
            ? null
            : openSecret(DATA_KEY, privateKey, privateKeyPlace(actor.tenantId, deviceId)).toString(),
        ]),
      );
      const wireguard = (inbound: store.ServingInbound): NodeAccess['wireguard'] =>
        devices.map(({ deviceId, name }) => {
          const own = addresses.filter((row) => row.nodeId === inbound.nodeId && row.deviceId === deviceId);
          if (own.length === 0) {
            throw new AppError('pending', 'a device has no address on its node yet', {
              retryAfterMs: RETRY_AFTER_MS,
            });
          }
          const conf = wireguardConf({
            privateKey: keys.get(deviceId) ?? null,
            addresses: own.map((row) => row.address),
            serverPublicKey: String(inbound.settings['publicKey']),
            presharedKey: presharedKey(secret, inbound.nodeId, deviceId),
            ...{ host: inbound.address, port: inbound.port },
          });
          return { deviceId, deviceName: name, tag: inbound.tag, conf };
        });
      const nodes = [...Map.groupBy(inbounds, (inbound) => inbound.nodeId).values()];
      const items = nodes.map((own): NodeAccess => {
        const { nodeId, nodeName, address } = own[0] as store.ServingInbound;
        const xray = own.filter((inbound) => inbound.engine === 'xray');
        // One account a node: it has Vision wherever one of the node's inbounds is REALITY.
        const flow = xray.some((inbound) => inbound.settings['security'] === 'reality') ? VISION : '';
        const vless = xray.map((inbound) => ({
          tag: inbound.tag,
          uri: vlessUri(address, inbound, vlessId(secret, nodeId), flow, `${subscription.name} ${nodeName}`),
        }));
        const tunnels = own.filter((inbound) => inbound.engine === 'wireguard').flatMap(wireguard);
        return { nodeId, nodeName, address, vless, wireguard: tunnels };
      });
      const entry = { action: 'subscription.secret.read', entity: 'subscription', entityId: subscriptionId };
      await appendAudit(acting, entry);
      const missingEngines = subscription.engines.filter(
        (engine) => !inbounds.some((inbound) => inbound.engine === engine),
      );
      return { items, missingEngines };
    });
  }
}
