// The anchor of `order` in a process of its own: a bidirectional stream that answers each message with one of the same
// size, over the same TLS and the same server as the product, and does nothing else.
import { createMetrics } from '@penstock/service/metrics';
import { createLogger } from '@penstock/service/logger';
import { bidi } from '@penstock/rpc/handlers';
import { createServer } from '@penstock/rpc/server';
import {
  EnforcementServiceService,
  type SyncRequest,
  type SyncResponse,
} from '@penstock/rpc/gen/penstock/enforcement/v1/enforcement';

const [certFile = '', keyFile = '', rootFile = '', trustDomain = '', port = '0'] = process.argv.slice(2);
const server = createServer({
  tls: { certFile, keyFile, rootFile },
  trustDomain,
  allow: { [EnforcementServiceService.sync.path]: ['node'] },
  services: [
    [
      EnforcementServiceService,
      {
        sync: bidi<SyncRequest, SyncResponse>(async (stream) => {
          for await (const { message } of stream) {
            if (message === undefined) continue;
            await stream.write({
              message: { $case: 'welcome', value: { fence: 1n, serverTimeMs: 1n, heartbeatIntervalMs: 1 } },
            });
          }
        }),
      },
    ],
  ],
  log: createLogger('echo', 'warn'),
  metrics: createMetrics(),
  clientCertificates: 'required',
});
await server.listen('127.0.0.1', Number(port));
process.on('SIGTERM', () => void server.close(0).then(() => process.exit(0)));
