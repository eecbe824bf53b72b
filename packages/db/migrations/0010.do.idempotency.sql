-- Answers to requests that carried an Idempotency-Key: written in the transaction of the request's effect, read by its
-- repetitions. A row that exists is an answer; a request under way is an advisory lock, which ends with its
-- connection. Writer: control-api; the scheduler deletes what is older than a day.
CREATE TABLE idempotency_key (
  tenant_id    uuid NOT NULL REFERENCES tenant (tenant_id),
  -- The account or API key that asked: keys of two callers never meet.
  actor_id     uuid NOT NULL,
  key_hash     bytea NOT NULL CHECK (length(key_hash) = 32),
  request_hash bytea NOT NULL CHECK (length(request_hash) = 32),
  status       smallint NOT NULL CHECK (status BETWEEN 200 AND 599),
  headers      jsonb NOT NULL,
  -- Encrypted: an answer may show a secret that is shown once.
  body         bytea NOT NULL,
  created_at   timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, actor_id, key_hash)
);
CREATE INDEX idempotency_key_age ON idempotency_key (created_at);

ALTER TABLE idempotency_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotency_key FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_of_transaction ON idempotency_key TO penstock_control_api
  USING (tenant_id = (SELECT app_tenant())) WITH CHECK (tenant_id = (SELECT app_tenant()));
-- Younger rows are not even seen, so no mistake of the task can forget an answer too early.
CREATE POLICY sweep ON idempotency_key TO penstock_scheduler USING (created_at < now() - interval '24 hours');

GRANT SELECT, INSERT ON idempotency_key TO penstock_control_api;
GRANT SELECT (tenant_id, actor_id, key_hash, created_at), DELETE ON idempotency_key TO penstock_scheduler;
