// control-api: people and integrations. Configuration, database, first start, HTTP; ends in the reverse order.
import 'reflect-metadata';
import { AppError } from '@penstock/domain/errors';
import { systemClock } from '@penstock/domain/clock';
import { createPool } from '@penstock/db/pool';
import { loadConfigOrExit } from '@penstock/service/config';
import { createLogger } from '@penstock/service/logger';
import { createMetrics } from '@penstock/service/metrics';
import { startOpsServer } from '@penstock/service/ops-server';
import { onShutdown } from '@penstock/service/shutdown';
import { cannotStart } from '@penstock/service/start-failure';
import { AppModule } from './app.module.js';
import { configSchema } from './config.js';
import { Context } from './context.js';
import { createServer } from './http/server.js';
import { LocalNode } from './local-node/local-node.js';
import { SchedulerClient } from './nodes/scheduler.client.js';
import { SetupService } from './setup/setup.service.js';

const FIRST_START_RETRY_MS = 1_000;
const DATABASE_CHECK_MS = 5_000;

const unusable = cannotStart('control-api');
const config = loadConfigOrExit(configSchema);
const log = createLogger('control-api', config.LOG_LEVEL);
const metrics = createMetrics();
const pool = createPool(config.DATABASE_URL, {
  ...{ applicationName: 'penstock-control-api', max: config.DATABASE_CONNECTIONS, log },
});
const context = new Context(config, systemClock, log, metrics, pool);
const reasons = new Set(['starting']);

const ops = await startOpsServer({
  ...{ host: config.OPS_HOST, port: config.OPS_PORT, allow: config.OPS_ALLOW, registry: metrics.registry },
  ready: () => ({ ready: reasons.size === 0, reasons: [...reasons] }),
}).catch(unusable);
const app = await createServer(AppModule.with(context)).catch(unusable);
const localNode = app.get(LocalNode);

onShutdown(log, [
  {
    name: 'intake',
    run: async () => {
      reasons.add('stopping');
      localNode.stop();
      await app.close();
    },
  },
  { name: 'scheduler client', run: async () => app.get(SchedulerClient).close() },
  { name: 'database', run: () => pool.end() },
  { name: 'ops', run: () => ops.close() },
]);

await firstStart();
await app.listen(config.HTTP_PORT, config.HTTP_HOST).catch(unusable);
reasons.delete('starting');
setInterval(() => {
  pool.query('SELECT 1').then(
    () => reasons.delete('database'),
    () => reasons.add('database'),
  );
}, DATABASE_CHECK_MS).unref();
const address = app.getHttpServer().address();
log.info({ host: config.HTTP_HOST, port: typeof address === 'string' ? 0 : address?.port }, 'serving HTTP');
log.info({ host: config.OPS_HOST, port: ops.port }, 'serving operations');

/** The database may come up after us: any order of starts is good. */
async function firstStart(): Promise<void> {
  for (;;) {
    try {
      await localNode.start(await app.get(SetupService).prepare());
      reasons.delete('database');
      return;
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'unavailable') return unusable(error);
      reasons.add('database');
      log.warn({ error }, 'the first start waits for the database');
      await new Promise((resolve) => setTimeout(resolve, FIRST_START_RETRY_MS));
    }
  }
}
