-- What live pages and webhooks are told: one row an event, written by triggers in the transaction of its cause, so that
-- nothing is told that did not happen and nothing that happened is left out. Kept for two days (scheduler).
-- (xact, event_seq) is the order in which readers go: a reader never passes a transaction that may still commit
-- (xact < the oldest running one), so nobody misses an event of a transaction that took longer.
CREATE TABLE event (
  tenant_id uuid NOT NULL REFERENCES tenant (tenant_id),
  xact      xid8 NOT NULL DEFAULT pg_current_xact_id(),
  event_seq bigint GENERATED ALWAYS AS IDENTITY,
  at        timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- `noun.verb`.
  type      text NOT NULL,
  entity    text NOT NULL,
  entity_id uuid,
  -- Only what everybody who may read the entity may see.
  data      jsonb NOT NULL DEFAULT '{}',
  PRIMARY KEY (tenant_id, xact, event_seq)
);
CREATE INDEX event_at ON event (at);

ALTER TABLE event ENABLE ROW LEVEL SECURITY;
ALTER TABLE event FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant_of_transaction ON event TO penstock_control_api
  USING (tenant_id = (SELECT app_tenant())) WITH CHECK (tenant_id = (SELECT app_tenant()));
-- The scheduler writes what it decides for every tenant, delivers webhooks, and removes what is old.
CREATE POLICY sweep ON event TO penstock_scheduler USING (true) WITH CHECK (true);
GRANT SELECT, INSERT ON event TO penstock_control_api;
GRANT SELECT, INSERT, DELETE ON event TO penstock_scheduler;

-- Every audited change.
CREATE FUNCTION event_of_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO event (tenant_id, type, entity, entity_id) SELECT tenant_id, action, entity, entity_id FROM added;
  RETURN NULL;
END $$;
CREATE TRIGGER audit_log_event AFTER INSERT ON audit_log REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION event_of_audit();

-- What holds for a subscription, when it became another.
CREATE FUNCTION event_of_new_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO event (tenant_id, type, entity, entity_id, data)
  SELECT tenant_id, 'subscription.state', 'subscription', subscription_id,
         jsonb_build_object('state', effective_state, 'reason', reason) FROM added;
  RETURN NULL;
END $$;
-- A row at a time: a join of what was and what is would be planned once for few rows and then run for many.
CREATE FUNCTION event_of_state() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO event (tenant_id, type, entity, entity_id, data)
  VALUES (NEW.tenant_id, 'subscription.state', 'subscription', NEW.subscription_id,
          jsonb_build_object('state', NEW.effective_state, 'reason', NEW.reason));
  RETURN NULL;
END $$;
CREATE TRIGGER subscription_state_event_insert AFTER INSERT ON subscription_state REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION event_of_new_state();
CREATE TRIGGER subscription_state_event_update AFTER UPDATE ON subscription_state FOR EACH ROW
  WHEN ((OLD.effective_state, OLD.reason) IS DISTINCT FROM (NEW.effective_state, NEW.reason))
  EXECUTE FUNCTION event_of_state();

-- An order's proof, or that there is none.
CREATE FUNCTION event_of_enforcement() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO event (tenant_id, type, entity, entity_id, data)
  VALUES (NEW.tenant_id, 'enforcement.' || NEW.state, 'enforcement', NEW.subscription_id,
          jsonb_build_object('nodeId', NEW.node_id, 'kind', NEW.kind, 'cause', NEW.cause, 'revision', NEW.revision::text));
  RETURN NULL;
END $$;
CREATE TRIGGER enforcement_event AFTER UPDATE ON enforcement FOR EACH ROW
  WHEN (OLD.state <> NEW.state) EXECUTE FUNCTION event_of_enforcement();

CREATE FUNCTION notify_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('event', tenant_id::text) FROM (SELECT DISTINCT tenant_id FROM added) t;
  RETURN NULL;
END $$;
CREATE TRIGGER event_notify AFTER INSERT ON event REFERENCING NEW TABLE AS added
  FOR EACH STATEMENT EXECUTE FUNCTION notify_event();
