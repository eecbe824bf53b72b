-- A wish to bill quarantined usage of a subscription that has no period yet waits for one: the collector looks at it
-- again at retry_at, and meanwhile takes those behind it.
ALTER TABLE quarantine_release ADD COLUMN retry_at timestamptz NOT NULL DEFAULT '-infinity';
CREATE INDEX quarantine_release_due ON quarantine_release (tenant_id, retry_at, quarantine_id);
GRANT UPDATE (retry_at) ON quarantine_release TO penstock_collector;
