// A second control-api over the world's database: what one process revokes, the other must refuse.
import type { AddressInfo } from 'node:net';
import { createPool } from '@penstock/db/pool';
import { createLogger } from '@penstock/service/logger';
import { createMetrics } from '@penstock/service/metrics';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { AppModule } from '../src/app.module.js';
import { Context } from '../src/context.js';
import { createServer } from '../src/http/server.js';
import type { World } from './world.js';

export interface Sibling {
  app: NestFastifyApplication;
  /** Status of a GET with this bearer token. */
  get(path: string, token: string): Promise<number>;
  close(): Promise<void>;
}

export async function createSibling(world: World): Promise<Sibling> {
  const { config, clock } = world.context;
  const pool = createPool(config.DATABASE_URL, { applicationName: 'sibling' });
  const log = createLogger('control-api', config.LOG_LEVEL, { write: () => undefined });
  const app = await createServer(AppModule.with(new Context(config, clock, log, createMetrics(), pool)));
  await app.listen(0, '127.0.0.1');
  const { port } = app.getHttpServer().address() as AddressInfo;
  return {
    app,
    get: async (path, token) => {
      const headers = { authorization: `Bearer ${token}` };
      const response = await fetch(`http://127.0.0.1:${port}${path}`, { headers });
      await response.arrayBuffer();
      return response.status;
    },
    close: async () => {
      await app.close();
      await pool.end();
    },
  };
}

/** Milliseconds until `look` gives `wanted`; throws after `limitMs`. */
export async function untilStatus(
  look: () => Promise<number>,
  wanted: number,
  limitMs: number,
): Promise<number> {
  const startMs = performance.now();
  for (;;) {
    const status = await look();
    const ms = performance.now() - startMs;
    if (status === wanted) return ms;
    if (ms > limitMs) throw new Error(`still ${status} after ${Math.round(ms)} ms`);
  }
}
