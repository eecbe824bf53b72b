// What one process of control-api holds: made once by main (or a test), handed to every class that needs a part.
import type { Clock } from '@penstock/domain/clock';
import type { Pool } from '@penstock/db/pool';
import type { Logger } from '@penstock/service/logger';
import type { Metrics } from '@penstock/service/metrics';
import type { Config } from './config.js';

export class Context {
  constructor(
    readonly config: Config,
    readonly clock: Clock,
    readonly log: Logger,
    readonly metrics: Metrics,
    readonly pool: Pool,
  ) {}
}
