// The node of this very machine, for a first start without a second machine: a shared node "local" in the group
// "default", with a VLESS and a WireGuard inbound, and a join token in a file that only its owner can read. Ports and
// address follow the settings at each start. Invariant: there is a good token in the file until the node is heard of.
import { readFile, rename, writeFile } from 'node:fs/promises';
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type NodeId, type TenantId } from '@penstock/domain/ids';
import { nodeChanged } from '../access-change.store.js';
import { appendAudit } from '../audit/audit.store.js';
import { Context } from '../context.js';
import { Database, type Acting } from '../database.js';
import { id } from '../http/fields.js';
import { JOIN_TOKEN_MINUTES } from '../join-tokens/join-tokens.schema.js';
import { JoinTokensService } from '../join-tokens/join-tokens.service.js';
import { createNodeGroup } from '../node-groups/node-groups.service.js';
import { newNode } from '../nodes/nodes.schema.js';
import { NodesService } from '../nodes/nodes.service.js';
import { lockFirstStart } from '../setup/setup.store.js';
import { productActor } from '../setup/setup.service.js';
import * as store from './local-node.store.js';

const NODE = 'local';
const GROUP = 'default';
const CHECK_MS = 60_000;
/** A token with less left than this is replaced. */
const RENEW_BEFORE_MS = 10 * 60_000;

@Injectable()
export class LocalNode {
  #timer: NodeJS.Timeout | undefined;
  #tokenUntilMs = 0;

  constructor(
    private readonly context: Context,
    private readonly database: Database,
    private readonly nodes: NodesService,
    private readonly joinTokens: JoinTokensService,
  ) {}

  /** Registers the node if it is missing and keeps a token in the file. Does nothing unless LOCAL_NODE is 1. */
  async start(platform: TenantId): Promise<void> {
    const { LOCAL_NODE, LOCAL_NODE_TOKEN_FILE } = this.context.config;
    if (LOCAL_NODE !== '1') return;
    if (LOCAL_NODE_TOKEN_FILE === undefined) {
      throw new AppError('invalid_input', 'LOCAL_NODE is 1, so LOCAL_NODE_TOKEN_FILE must be set');
    }
    if (await this.#keep(platform, LOCAL_NODE_TOKEN_FILE)) return;
    this.#timer = setInterval(() => {
      this.#keep(platform, LOCAL_NODE_TOKEN_FILE).then(
        (heard) => {
          if (heard) this.stop();
        },
        (error: unknown) => this.context.log.warn({ error }, 'local node: no join token written'),
      );
    }, CHECK_MS);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** True once the node has been heard of. */
  async #keep(platform: TenantId, file: string): Promise<boolean> {
    // The node's id beside its token: an operator may rename the node.
    const idFile = `${file}.node`;
    const knownId = await readId(idFile);
    const made = await this.database.transaction(productActor(platform), async (acting) => {
      await lockFirstStart(acting.client);
      const { nodeId, heard } = await this.#ensureNode(acting, knownId);
      const fresh = this.#tokenUntilMs - this.context.clock.now() > RENEW_BEFORE_MS;
      if (heard || fresh) return { nodeId, heard, joinToken: null };
      return {
        nodeId,
        heard,
        joinToken: await this.joinTokens.createIn(acting, nodeId, JOIN_TOKEN_MINUTES.max),
      };
    });
    if (made.nodeId !== knownId) await writePrivate(idFile, made.nodeId);
    if (made.joinToken !== null) {
      await writePrivate(file, made.joinToken.token);
      this.#tokenUntilMs = made.joinToken.expiresAt.getTime();
    }
    return made.heard;
  }

  async #ensureNode(acting: Acting, knownId: NodeId | null): Promise<{ nodeId: NodeId; heard: boolean }> {
    const { config } = this.context;
    const known = await store.findSharedNode(acting, knownId, NODE);
    if (known !== null) {
      await this.#follow(acting, known.nodeId);
      return known;
    }
    const groupId =
      (await store.findSharedGroup(acting, GROUP)) ?? (await createNodeGroup(acting, GROUP)).nodeGroupId;
    const request = newNode.parse({
      ...{ name: NODE, address: config.LOCAL_NODE_ADDRESS, nodeGroupIds: [groupId] },
      inbounds: [
        { engine: 'xray', tag: 'vless', port: config.LOCAL_NODE_XRAY_PORT, security: 'none' },
        {
          ...{ engine: 'wireguard', tag: 'wireguard', port: config.LOCAL_NODE_WG_PORT },
          subnets: [config.LOCAL_NODE_WG_SUBNET],
        },
      ],
    });
    const { nodeId } = await this.nodes.registerIn(acting, request);
    return { nodeId, heard: false };
  }

  async #follow(acting: Acting, nodeId: NodeId): Promise<void> {
    const { LOCAL_NODE_ADDRESS, LOCAL_NODE_XRAY_PORT, LOCAL_NODE_WG_PORT } = this.context.config;
    const moved = [
      await store.moveNode(acting, nodeId, LOCAL_NODE_ADDRESS),
      await store.moveInbound(acting, nodeId, 'vless', LOCAL_NODE_XRAY_PORT),
      await store.moveInbound(acting, nodeId, 'wireguard', LOCAL_NODE_WG_PORT),
    ];
    if (!moved.includes(true)) return;
    await nodeChanged(acting, nodeId);
    await appendAudit(acting, {
      ...{ action: 'node.update', entity: 'node', entityId: nodeId },
      after: { address: LOCAL_NODE_ADDRESS, vless: LOCAL_NODE_XRAY_PORT, wireguard: LOCAL_NODE_WG_PORT },
    });
  }
}

/** null when the file is not there or holds no id. */
async function readId(file: string): Promise<NodeId | null> {
  const text = await readFile(file, 'utf8').catch(() => '');
  return id<NodeId>().safeParse(text.trim()).data ?? null;
}

/** Whole or not at all, readable by the owner only. */
async function writePrivate(file: string, content: string): Promise<void> {
  const part = `${file}.${newId()}.part`;
  await writeFile(part, content, { mode: 0o600 });
  await rename(part, file);
}
