// A join token carries all that a new node needs: the secret, the fingerprint of the root it must trust, and where to
// go. It is shown once and good for one certificate.
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Injectable } from '@nestjs/common';
import { AppError } from '@penstock/domain/errors';
import { newId, type NodeId } from '@penstock/domain/ids';
import { formatJoinToken, joinTokenHash, newJoinTokenSecret } from '@penstock/rpc/join-token';
import { loadTls } from '@penstock/rpc/trust';
import { appendAudit } from '../audit/audit.store.js';
import { Context } from '../context.js';
import { Database, type Acting } from '../database.js';
import type { Actor } from '../http/actor.js';
import { lockNode } from '../nodes/nodes.store.js';
import * as store from './join-tokens.store.js';

export interface JoinToken {
  joinTokenId: string;
  nodeId: NodeId;
  token: string;
  expiresAt: Date;
}

@Injectable()
export class JoinTokensService {
  constructor(
    private readonly context: Context,
    private readonly database: Database,
  ) {}

  /** Throws not_found, forbidden (a shared node) or failed_precondition (a revoked one). */
  create(actor: Actor, nodeId: NodeId, ttlMinutes: number): Promise<JoinToken> {
    return this.database.transaction(actor, (acting) => this.createIn(acting, nodeId, ttlMinutes));
  }

  /** Throws not_found or forbidden (a shared node). */
  list(actor: Actor, nodeId: NodeId): Promise<{ items: store.ListedJoinToken[] }> {
    return this.database.transaction(actor, async (acting) => {
      await lockNode(acting, nodeId);
      return { items: await store.listJoinTokens(acting, nodeId) };
    });
  }

  /** Throws not_found, forbidden (a shared node) or failed_precondition (a node has used it). */
  revoke(actor: Actor, nodeId: NodeId, joinTokenId: string): Promise<void> {
    return this.database.transaction(actor, async (acting) => {
      await lockNode(acting, nodeId);
      const token = await store.findJoinToken(acting, nodeId, joinTokenId);
      if (token === null) throw new AppError('not_found', 'there is no such join token');
      if (token.usedAt !== null) {
        throw new AppError('failed_precondition', 'a node has used this token: revoke the node instead');
      }
      if (token.revokedAt !== null) return;
      await store.revokeJoinToken(acting, joinTokenId);
      const entry = { action: 'join_token.revoke', entity: 'join_token', entityId: joinTokenId };
      await appendAudit(acting, { ...entry, before: { nodeId, expiresAt: token.expiresAt } });
    });
  }

  /** Within the caller's transaction. */
  async createIn(acting: Acting, nodeId: NodeId, ttlMinutes: number): Promise<JoinToken> {
    if ((await lockNode(acting, nodeId)).state === 'revoked') {
      throw new AppError('failed_precondition', 'this node was revoked; register a new one');
    }
    const secret = newJoinTokenSecret();
    const joinTokenId: string = newId();
    const expiresAt = new Date(acting.at.getTime() + ttlMinutes * 60_000);
    await store.insertJoinToken(acting, { joinTokenId, nodeId, expiresAt, hash: joinTokenHash(secret) });
    await appendAudit(acting, {
      ...{ action: 'join_token.create', entity: 'join_token', entityId: joinTokenId },
      after: { nodeId, expiresAt },
    });
    return { joinTokenId, nodeId, token: await this.#text(secret), expiresAt };
  }

  async #text(secret: Buffer): Promise<string> {
    const { TLS_ROOT_FILE, NODE_ENROLL_ADDRESS, NODE_ENFORCEMENT_ADDRESS, NODE_USAGE_ADDRESS } =
      this.context.config;
    const [root] = loadTls({ root: await readFile(TLS_ROOT_FILE, 'utf8') }, 1).anchors;
    if (root === undefined) throw new AppError('internal', 'the trust file holds no root');
    return formatJoinToken({
      secret,
      rootFingerprint: createHash('sha256').update(root.raw).digest('hex'),
      enroll: NODE_ENROLL_ADDRESS,
      enforcement: NODE_ENFORCEMENT_ADDRESS,
      usage: NODE_USAGE_ADDRESS,
    });
  }
}
