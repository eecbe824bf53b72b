-- Webhooks: a tenant's own server is told of events. Settings: control-api. Deliveries: the scheduler, from `event`.
CREATE TABLE webhook (
  tenant_id       uuid NOT NULL REFERENCES tenant (tenant_id),
  webhook_id      uuid NOT NULL,
  name            text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  -- AEAD, AAD = webhook_url, tenant, id: a URL may carry a token. Shown is its origin alone.
  url             bytea NOT NULL,
  origin          text NOT NULL,
  -- `noun.verb`, `noun.*` or `*`.
  events          text[] NOT NULL CHECK (cardinality(events) BETWEEN 1 AND 100),
  -- AEAD, AAD = webhook, tenant, id. While the old one is still good both sign.
  secret          bytea NOT NULL,
  old_secret      bytea,
  old_until       timestamptz,
  enabled         boolean NOT NULL DEFAULT true,
  -- Why the scheduler switched it off.
  disabled_reason text,
  version         integer NOT NULL DEFAULT 1,
  created_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, webhook_id)
);

-- Rounds of failures in a row, written by the scheduler alone, so that a delivery never meets an edit's version. A
-- server that is away is asked again as a whole, not delivery by delivery: until resume_at nothing is sent to it.
CREATE TABLE webhook_health (
  tenant_id  uuid NOT NULL,
  webhook_id uuid NOT NULL,
  failures   integer NOT NULL,
  resume_at  timestamptz,
  PRIMARY KEY (tenant_id, webhook_id),
  FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhook (tenant_id, webhook_id) ON DELETE CASCADE
);

CREATE TABLE webhook_delivery (
  tenant_id   uuid NOT NULL,
  delivery_id uuid NOT NULL DEFAULT uuidv7(),
  webhook_id  uuid NOT NULL,
  type        text NOT NULL,
  body        jsonb NOT NULL,
  state       text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'failed')),
  attempts    integer NOT NULL DEFAULT 0,
  next_at     timestamptz NOT NULL,
  http_status integer,
  -- From a closed list; never text of the other side.
  error       text,
  created_at  timestamptz NOT NULL,
  done_at     timestamptz,
  PRIMARY KEY (tenant_id, delivery_id),
  FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhook (tenant_id, webhook_id) ON DELETE CASCADE
);
CREATE INDEX webhook_delivery_due ON webhook_delivery (tenant_id, webhook_id, next_at) WHERE state = 'pending';
CREATE INDEX webhook_delivery_waiting ON webhook_delivery (created_at) WHERE state = 'pending';
CREATE INDEX webhook_delivery_webhook ON webhook_delivery (tenant_id, webhook_id, delivery_id);
CREATE INDEX webhook_delivery_done ON webhook_delivery (done_at) WHERE state <> 'pending';

-- How far events have become deliveries: moved in the transaction that writes them. One row, no tenant.
CREATE TABLE webhook_position (
  one       boolean PRIMARY KEY DEFAULT true CHECK (one),
  xact      xid8 NOT NULL,
  event_seq bigint NOT NULL
);
INSERT INTO webhook_position (xact, event_seq) VALUES (pg_current_xact_id(), 0);
-- Events of all tenants in the order in which they are told.
CREATE INDEX event_order ON event (xact, event_seq);

DO $$
DECLARE
  t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['webhook', 'webhook_health', 'webhook_delivery'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY tenant_of_transaction ON %I TO penstock_control_api
      USING (tenant_id = (SELECT app_tenant())) WITH CHECK (tenant_id = (SELECT app_tenant()))', t);
    EXECUTE format('CREATE POLICY sweep ON %I TO penstock_scheduler USING (true) WITH CHECK (true)', t);
  END LOOP;
END
$$;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook TO penstock_control_api;
GRANT SELECT, DELETE ON webhook_health TO penstock_control_api;
GRANT SELECT, INSERT, UPDATE ON webhook_delivery TO penstock_control_api;
GRANT SELECT, UPDATE (enabled, disabled_reason) ON webhook TO penstock_scheduler;
GRANT SELECT, INSERT, UPDATE ON webhook_health TO penstock_scheduler;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_delivery TO penstock_scheduler;
GRANT SELECT, UPDATE ON webhook_position TO penstock_scheduler;
