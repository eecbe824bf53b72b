// Settings of the whole platform, changed by its owner. Changes follow each other under the platform tenant's row lock.
import { Injectable } from '@nestjs/common';
import { appendAudit } from '../audit/audit.store.js';
import { Database } from '../database.js';
import type { Actor } from '../http/actor.js';
import { requireVersion } from '../http/entity-tag.js';
import { lockTenant } from '../tenants/tenants.store.js';
import type { ChangedSettings, Settings } from './settings.schema.js';
import { readSettings, writeSetting } from './settings.store.js';

export type SettingsView = Settings & { version: number };

@Injectable()
export class SettingsService {
  constructor(private readonly database: Database) {}

  async get(actor: Actor): Promise<SettingsView> {
    const { settings, version } = await this.database.transaction(actor, ({ client }) =>
      readSettings(client),
    );
    return { ...settings, version };
  }

  /** Throws failed_precondition. What is set to what it is already changes nothing. */
  change(actor: Actor, change: ChangedSettings, ifMatch: string | undefined): Promise<SettingsView> {
    return this.database.transaction(actor, async (acting) => {
      await lockTenant(acting, actor.tenantId);
      const before = await readSettings(acting.client);
      requireVersion(ifMatch, before.version);
      const changed = Object.entries(change).filter(
        ([key, value]) => before.settings[key as keyof Settings] !== value,
      );
      for (const [key, value] of changed) await writeSetting(acting, key, value);
      const { settings, version } = await readSettings(acting.client);
      if (changed.length > 0) {
        await appendAudit(acting, {
          ...{ action: 'settings.update', entity: 'settings', entityId: null },
          before: Object.fromEntries(changed.map(([key]) => [key, before.settings[key as keyof Settings]])),
          after: Object.fromEntries(changed),
        });
      }
      return { ...settings, version };
    });
  }
}
