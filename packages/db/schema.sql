-- The current schema, read from a migrated database (npm run db:schema). Do not edit: write a migration.

CREATE TABLE access_change (
  tenant_id uuid NOT NULL,
  change_id uuid NOT NULL,
  subscription_id uuid,
  node_id uuid,
  cause text NOT NULL,
  period_id uuid,
  observed_bytes bigint,
  created_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT access_change_cause_check CHECK ((cause = ANY (ARRAY['edit'::text, 'crossing'::text, 'expiry'::text, 'period'::text, 'node'::text, 'sweep'::text, 'tenant'::text, 'first_use'::text]))),
  CONSTRAINT access_change_pkey PRIMARY KEY (tenant_id, change_id)
);

CREATE TABLE account (
  account_id uuid NOT NULL,
  email text NOT NULL,
  display_name text NOT NULL DEFAULT ''::text,
  password_hash text NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  disabled_at timestamp with time zone,
  email_key text,
  CONSTRAINT account_email_check CHECK (((length(email) >= 3) AND (length(email) <= 254))),
  CONSTRAINT account_email_key UNIQUE (email),
  CONSTRAINT account_pkey PRIMARY KEY (account_id)
);

CREATE TABLE api_key (
  tenant_id uuid NOT NULL,
  key_id uuid NOT NULL,
  account_id uuid NOT NULL,
  name text NOT NULL,
  prefix text NOT NULL,
  scopes text[] NOT NULL,
  cidrs text[] NOT NULL DEFAULT '{}'::text[],
  created_at timestamp with time zone NOT NULL,
  expires_at timestamp with time zone NOT NULL,
  last_used_at timestamp with time zone,
  revoked_at timestamp with time zone,
  CONSTRAINT api_key_account_id_fkey FOREIGN KEY (account_id) REFERENCES account(account_id),
  CONSTRAINT api_key_cidrs_check CHECK ((cardinality(cidrs) <= 50)),
  CONSTRAINT api_key_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100))),
  CONSTRAINT api_key_pkey PRIMARY KEY (tenant_id, key_id),
  CONSTRAINT api_key_scopes_check CHECK (((cardinality(scopes) >= 1) AND (cardinality(scopes) <= 200))),
  CONSTRAINT api_key_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id)
);

CREATE TABLE assignment (
  tenant_id uuid NOT NULL,
  node_id uuid NOT NULL,
  subscription_id uuid NOT NULL,
  assigned_at timestamp with time zone NOT NULL,
  ended_at timestamp with time zone,
  CONSTRAINT assignment_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(node_id),
  CONSTRAINT assignment_pkey PRIMARY KEY (tenant_id, node_id, subscription_id),
  CONSTRAINT assignment_tenant_id_subscription_id_fkey FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscription(tenant_id, subscription_id)
);

CREATE TABLE audit_head (
  tenant_id uuid NOT NULL,
  seq bigint NOT NULL,
  hash bytea NOT NULL,
  exported_at timestamp with time zone NOT NULL,
  CONSTRAINT audit_head_pkey PRIMARY KEY (tenant_id, seq),
  CONSTRAINT audit_head_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id)
);

CREATE TABLE audit_log (
  tenant_id uuid NOT NULL,
  seq bigint NOT NULL,
  at timestamp with time zone NOT NULL,
  account_id uuid,
  action text NOT NULL,
  entity text NOT NULL,
  entity_id uuid,
  before jsonb,
  after jsonb,
  ip inet,
  user_agent text,
  request_id uuid NOT NULL,
  prev_hash bytea NOT NULL,
  hash bytea NOT NULL,
  key_id uuid,
  trace_id text,
  CONSTRAINT audit_log_pkey PRIMARY KEY (tenant_id, seq),
  CONSTRAINT audit_log_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id)
);

CREATE TABLE certificate (
  serial bytea NOT NULL,
  node_id uuid NOT NULL,
  join_token_id uuid,
  public_key_hash bytea NOT NULL,
  der bytea NOT NULL,
  not_before timestamp with time zone NOT NULL,
  not_after timestamp with time zone NOT NULL,
  issued_at timestamp with time zone NOT NULL DEFAULT now(),
  revoked_at timestamp with time zone,
  revoke_reason text,
  CONSTRAINT certificate_join_token_id_key UNIQUE (join_token_id),
  CONSTRAINT certificate_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(node_id),
  CONSTRAINT certificate_pkey PRIMARY KEY (serial),
  CONSTRAINT certificate_serial_check CHECK ((length(serial) = 16))
);

CREATE TABLE credential_route (
  hash bytea NOT NULL,
  tenant_id uuid NOT NULL,
  kind text NOT NULL,
  id uuid NOT NULL,
  CONSTRAINT credential_route_kind_check CHECK ((kind = ANY (ARRAY['join_token'::text, 'api_key'::text, 'link'::text, 'invitation'::text]))),
  CONSTRAINT credential_route_pkey PRIMARY KEY (hash),
  CONSTRAINT credential_route_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id)
);

CREATE TABLE device (
  tenant_id uuid NOT NULL,
  device_id uuid NOT NULL,
  subscription_id uuid NOT NULL,
  name text NOT NULL,
  public_key bytea NOT NULL,
  private_key bytea,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  removed_at timestamp with time zone,
  CONSTRAINT device_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100))),
  CONSTRAINT device_pkey PRIMARY KEY (tenant_id, device_id),
  CONSTRAINT device_public_key_check CHECK ((length(public_key) = 32)),
  CONSTRAINT device_tenant_id_subscription_id_fkey FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscription(tenant_id, subscription_id)
);

CREATE TABLE device_key (
  public_key bytea NOT NULL,
  device_id uuid NOT NULL,
  CONSTRAINT device_key_device_id_key UNIQUE (device_id),
  CONSTRAINT device_key_pkey PRIMARY KEY (public_key),
  CONSTRAINT device_key_public_key_check CHECK ((length(public_key) = 32))
);

CREATE TABLE enforcement (
  tenant_id uuid NOT NULL,
  subscription_id uuid NOT NULL,
  node_id uuid NOT NULL,
  revision bigint NOT NULL,
  kind text NOT NULL,
  cause text NOT NULL,
  state text NOT NULL DEFAULT 'ordered'::text,
  caused_at timestamp with time zone NOT NULL,
  ordered_at timestamp with time zone NOT NULL,
  acknowledged_at timestamp with time zone,
  sessions_ended integer,
  cut_us integer,
  proven_us integer,
  reason text NOT NULL DEFAULT ''::text,
  CONSTRAINT enforcement_kind_check CHECK ((kind = ANY (ARRAY['grant'::text, 'cut'::text]))),
  CONSTRAINT enforcement_pkey PRIMARY KEY (tenant_id, subscription_id, node_id, revision),
  CONSTRAINT enforcement_state_check CHECK ((state = ANY (ARRAY['ordered'::text, 'confirmed'::text, 'unproven'::text, 'failed'::text])))
);

CREATE TABLE event (
  tenant_id uuid NOT NULL,
  xact xid8 NOT NULL DEFAULT pg_current_xact_id(),
  event_seq bigint NOT NULL,
  at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  type text NOT NULL,
  entity text NOT NULL,
  entity_id uuid,
  data jsonb NOT NULL DEFAULT '{}'::jsonb,
  CONSTRAINT event_pkey PRIMARY KEY (tenant_id, xact, event_seq),
  CONSTRAINT event_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id)
);

CREATE TABLE idempotency_key (
  tenant_id uuid NOT NULL,
  actor_id uuid NOT NULL,
  key_hash bytea NOT NULL,
  request_hash bytea NOT NULL,
  status smallint NOT NULL,
  headers jsonb NOT NULL,
  body bytea NOT NULL,
  created_at timestamp with time zone NOT NULL,
  CONSTRAINT idempotency_key_key_hash_check CHECK ((length(key_hash) = 32)),
  CONSTRAINT idempotency_key_pkey PRIMARY KEY (tenant_id, actor_id, key_hash),
  CONSTRAINT idempotency_key_request_hash_check CHECK ((length(request_hash) = 32)),
  CONSTRAINT idempotency_key_status_check CHECK (((status >= 200) AND (status <= 599))),
  CONSTRAINT idempotency_key_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id)
);

CREATE TABLE identity_link (
  tenant_id uuid NOT NULL,
  identity_provider_id uuid NOT NULL,
  issuer text NOT NULL,
  subject text NOT NULL,
  account_id uuid NOT NULL,
  created_at timestamp with time zone NOT NULL,
  CONSTRAINT identity_link_account_id_fkey FOREIGN KEY (account_id) REFERENCES account(account_id),
  CONSTRAINT identity_link_pkey PRIMARY KEY (tenant_id, identity_provider_id, issuer, subject),
  CONSTRAINT identity_link_subject_check CHECK (((length(subject) >= 1) AND (length(subject) <= 255))),
  CONSTRAINT identity_link_tenant_id_identity_provider_id_account_id_key UNIQUE (tenant_id, identity_provider_id, account_id),
  CONSTRAINT identity_link_tenant_id_identity_provider_id_fkey FOREIGN KEY (tenant_id, identity_provider_id) REFERENCES identity_provider(tenant_id, identity_provider_id) ON DELETE CASCADE
);

CREATE TABLE identity_provider (
  tenant_id uuid NOT NULL,
  identity_provider_id uuid NOT NULL,
  name text NOT NULL,
  issuer text NOT NULL,
  client_id text NOT NULL,
  secret_sealed bytea NOT NULL,
  enabled boolean NOT NULL,
  version integer NOT NULL DEFAULT 1,
  created_at timestamp with time zone NOT NULL,
  CONSTRAINT identity_provider_client_id_check CHECK (((length(client_id) >= 1) AND (length(client_id) <= 200))),
  CONSTRAINT identity_provider_issuer_check CHECK (((length(issuer) >= 1) AND (length(issuer) <= 500))),
  CONSTRAINT identity_provider_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100))),
  CONSTRAINT identity_provider_pkey PRIMARY KEY (tenant_id, identity_provider_id),
  CONSTRAINT identity_provider_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id)
);

CREATE TABLE inbound (
  node_id uuid NOT NULL,
  tag text NOT NULL,
  engine text NOT NULL,
  port integer NOT NULL,
  settings jsonb NOT NULL DEFAULT '{}'::jsonb,
  secret bytea,
  CONSTRAINT inbound_engine_check CHECK ((engine = ANY (ARRAY['xray'::text, 'wireguard'::text]))),
  CONSTRAINT inbound_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(node_id),
  CONSTRAINT inbound_pkey PRIMARY KEY (node_id, tag),
  CONSTRAINT inbound_port_check CHECK (((port >= 1) AND (port <= 65535))),
  CONSTRAINT inbound_tag_check CHECK (((tag ~ '^[a-z0-9][a-z0-9-]{0,31}$'::text) AND (tag <> ALL (ARRAY['api'::text, 'direct'::text, 'blocked'::text]))))
);

CREATE TABLE invitation (
  tenant_id uuid NOT NULL,
  invitation_id uuid NOT NULL,
  email text NOT NULL,
  email_key text NOT NULL,
  role text NOT NULL,
  hash bytea NOT NULL,
  created_by uuid,
  created_at timestamp with time zone NOT NULL,
  expires_at timestamp with time zone NOT NULL,
  accepted_at timestamp with time zone,
  accepted_by uuid,
  revoked_at timestamp with time zone,
  CONSTRAINT invitation_accepted_by_fkey FOREIGN KEY (accepted_by) REFERENCES account(account_id),
  CONSTRAINT invitation_created_by_fkey FOREIGN KEY (created_by) REFERENCES account(account_id),
  CONSTRAINT invitation_email_check CHECK (((length(email) >= 3) AND (length(email) <= 254))),
  CONSTRAINT invitation_hash_check CHECK ((length(hash) = 32)),
  CONSTRAINT invitation_pkey PRIMARY KEY (tenant_id, invitation_id),
  CONSTRAINT invitation_role_check CHECK ((role = ANY (ARRAY['owner'::text, 'admin'::text, 'operator'::text, 'auditor'::text]))),
  CONSTRAINT invitation_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id)
);

CREATE TABLE join_token (
  tenant_id uuid NOT NULL,
  join_token_id uuid NOT NULL,
  node_id uuid NOT NULL,
  expires_at timestamp with time zone NOT NULL,
  revoked_at timestamp with time zone,
  created_by uuid,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT join_token_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(node_id),
  CONSTRAINT join_token_pkey PRIMARY KEY (tenant_id, join_token_id),
  CONSTRAINT join_token_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id)
);

CREATE TABLE ledger_frame (
  accepted_on date NOT NULL,
  node_id uuid NOT NULL,
  epoch integer NOT NULL,
  seq bigint NOT NULL,
  accepted_at timestamp with time zone NOT NULL,
  digest bytea NOT NULL,
  prev_digest bytea NOT NULL,
  header bytea NOT NULL,
  signature bytea NOT NULL,
  flags smallint NOT NULL DEFAULT 0,
  traceparent text
) PARTITION BY RANGE (accepted_on);

CREATE TABLE ledger_frame_default (
  accepted_on date NOT NULL,
  node_id uuid NOT NULL,
  epoch integer NOT NULL,
  seq bigint NOT NULL,
  accepted_at timestamp with time zone NOT NULL,
  digest bytea NOT NULL,
  prev_digest bytea NOT NULL,
  header bytea NOT NULL,
  signature bytea NOT NULL,
  flags smallint NOT NULL DEFAULT 0,
  traceparent text
);

CREATE TABLE ledger_slice (
  tenant_id uuid NOT NULL,
  accepted_on date NOT NULL,
  node_id uuid NOT NULL,
  epoch integer NOT NULL,
  seq bigint NOT NULL,
  opened integer NOT NULL,
  rows integer NOT NULL,
  digest bytea NOT NULL,
  prev_digest bytea NOT NULL,
  payload bytea NOT NULL
) PARTITION BY RANGE (accepted_on);

CREATE TABLE ledger_slice_default (
  tenant_id uuid NOT NULL,
  accepted_on date NOT NULL,
  node_id uuid NOT NULL,
  epoch integer NOT NULL,
  seq bigint NOT NULL,
  opened integer NOT NULL,
  rows integer NOT NULL,
  digest bytea NOT NULL,
  prev_digest bytea NOT NULL,
  payload bytea NOT NULL
);

CREATE TABLE loss_mark (
  node_id uuid NOT NULL,
  epoch integer NOT NULL,
  seq bigint NOT NULL,
  ordinal integer NOT NULL,
  kind text NOT NULL,
  engine text,
  from_at timestamp with time zone NOT NULL,
  to_at timestamp with time zone NOT NULL,
  CONSTRAINT loss_mark_kind_check CHECK ((kind = ANY (ARRAY['engine_died'::text, 'record_lost'::text]))),
  CONSTRAINT loss_mark_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(node_id),
  CONSTRAINT loss_mark_pkey PRIMARY KEY (node_id, epoch, seq, ordinal)
);

CREATE TABLE machine_token (
  tenant_id uuid NOT NULL,
  key_id uuid NOT NULL,
  account_id uuid NOT NULL,
  name text NOT NULL,
  jti_hash bytea NOT NULL,
  ancestors uuid[] NOT NULL DEFAULT '{}'::uuid[],
  scopes text[] NOT NULL,
  audience text NOT NULL,
  path_prefix text NOT NULL,
  single_use boolean NOT NULL,
  created_at timestamp with time zone NOT NULL,
  expires_at timestamp with time zone NOT NULL,
  used_at timestamp with time zone,
  revoked_at timestamp with time zone,
  CONSTRAINT machine_token_account_id_fkey FOREIGN KEY (account_id) REFERENCES account(account_id),
  CONSTRAINT machine_token_ancestors_check CHECK ((cardinality(ancestors) <= 8)),
  CONSTRAINT machine_token_check CHECK ((expires_at <= (created_at + '30 days 00:01:00'::interval))),
  CONSTRAINT machine_token_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100))),
  CONSTRAINT machine_token_pkey PRIMARY KEY (tenant_id, key_id),
  CONSTRAINT machine_token_scopes_check CHECK (((cardinality(scopes) >= 1) AND (cardinality(scopes) <= 200))),
  CONSTRAINT machine_token_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id),
  CONSTRAINT machine_token_tenant_id_jti_hash_key UNIQUE (tenant_id, jti_hash)
);

CREATE TABLE member (
  tenant_id uuid NOT NULL,
  account_id uuid NOT NULL,
  role text NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  version integer NOT NULL DEFAULT 1,
  CONSTRAINT member_account_id_fkey FOREIGN KEY (account_id) REFERENCES account(account_id),
  CONSTRAINT member_pkey PRIMARY KEY (tenant_id, account_id),
  CONSTRAINT member_role_check CHECK ((role = ANY (ARRAY['owner'::text, 'admin'::text, 'operator'::text, 'auditor'::text]))),
  CONSTRAINT member_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id)
);

CREATE TABLE meter (
  tenant_id uuid NOT NULL,
  node_id uuid NOT NULL,
  epoch integer NOT NULL,
  meter bigint NOT NULL,
  engine smallint NOT NULL,
  boot bytea NOT NULL,
  subscription_id uuid NOT NULL,
  device_id uuid,
  cumulative_up bigint NOT NULL,
  cumulative_down bigint NOT NULL,
  CONSTRAINT meter_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(node_id),
  CONSTRAINT meter_pkey PRIMARY KEY (tenant_id, node_id, epoch, meter)
) WITH (fillfactor=60);

CREATE TABLE node (
  node_id uuid NOT NULL,
  owner_tenant_id uuid,
  name text NOT NULL,
  address text NOT NULL,
  state text NOT NULL DEFAULT 'active'::text,
  multiplier_per_mille integer NOT NULL DEFAULT 1000,
  link_mbps integer NOT NULL DEFAULT 10000,
  version integer NOT NULL DEFAULT 1,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  name_key text,
  deleted_at timestamp with time zone,
  CONSTRAINT node_check CHECK (((deleted_at IS NULL) OR (state = 'revoked'::text))),
  CONSTRAINT node_link_mbps_check CHECK ((link_mbps > 0)),
  CONSTRAINT node_multiplier_per_mille_check CHECK (((multiplier_per_mille >= 0) AND (multiplier_per_mille <= 100000))),
  CONSTRAINT node_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100))),
  CONSTRAINT node_owner_tenant_id_fkey FOREIGN KEY (owner_tenant_id) REFERENCES tenant(tenant_id),
  CONSTRAINT node_pkey PRIMARY KEY (node_id),
  CONSTRAINT node_state_check CHECK ((state = ANY (ARRAY['active'::text, 'drain'::text, 'maintenance'::text, 'revoked'::text])))
);

CREATE TABLE node_address (
  node_id uuid NOT NULL,
  address inet NOT NULL,
  device_id uuid NOT NULL,
  released_at timestamp with time zone,
  CONSTRAINT node_address_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(node_id),
  CONSTRAINT node_address_pkey PRIMARY KEY (node_id, address)
);

CREATE TABLE node_change (
  tenant_id uuid NOT NULL,
  node_id uuid NOT NULL,
  subscription_id uuid NOT NULL,
  cause text NOT NULL,
  caused_at timestamp with time zone NOT NULL,
  generation uuid NOT NULL,
  CONSTRAINT node_change_pkey PRIMARY KEY (tenant_id, node_id, subscription_id)
);

CREATE TABLE node_group (
  node_group_id uuid NOT NULL,
  owner_tenant_id uuid,
  name text NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  name_key text,
  version integer NOT NULL DEFAULT 1,
  CONSTRAINT node_group_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100))),
  CONSTRAINT node_group_owner_tenant_id_fkey FOREIGN KEY (owner_tenant_id) REFERENCES tenant(tenant_id),
  CONSTRAINT node_group_pkey PRIMARY KEY (node_group_id)
);

CREATE TABLE node_group_node (
  node_group_id uuid NOT NULL,
  node_id uuid NOT NULL,
  CONSTRAINT node_group_node_node_group_id_fkey FOREIGN KEY (node_group_id) REFERENCES node_group(node_group_id),
  CONSTRAINT node_group_node_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(node_id),
  CONSTRAINT node_group_node_pkey PRIMARY KEY (node_group_id, node_id)
);

CREATE TABLE node_lease (
  node_id uuid NOT NULL,
  fence bigint NOT NULL,
  holder text NOT NULL,
  renewed_at timestamp with time zone NOT NULL,
  CONSTRAINT node_lease_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(node_id),
  CONSTRAINT node_lease_pkey PRIMARY KEY (node_id)
);

CREATE TABLE node_multiplier (
  node_id uuid NOT NULL,
  from_at timestamp with time zone NOT NULL,
  per_mille integer NOT NULL,
  CONSTRAINT node_multiplier_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(node_id),
  CONSTRAINT node_multiplier_per_mille_check1 CHECK (((per_mille >= 0) AND (per_mille <= 100000))),
  CONSTRAINT node_multiplier_pkey PRIMARY KEY (node_id, from_at)
);

CREATE TABLE node_status (
  node_id uuid NOT NULL,
  heartbeat_at timestamp with time zone NOT NULL,
  agent_version text NOT NULL,
  applied_revision bigint NOT NULL,
  subscriptions integer NOT NULL,
  engines jsonb NOT NULL,
  wal_bytes bigint NOT NULL,
  wal_frames integer NOT NULL,
  acknowledged_seq bigint NOT NULL,
  clock_skew_ms integer NOT NULL,
  CONSTRAINT node_status_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(node_id),
  CONSTRAINT node_status_pkey PRIMARY KEY (node_id)
);

CREATE TABLE oidc_exchange (
  hash bytea NOT NULL,
  browser_hash bytea NOT NULL,
  purpose text NOT NULL,
  provider_tenant_id uuid NOT NULL,
  identity_provider_id uuid NOT NULL,
  issuer text NOT NULL,
  subject text NOT NULL,
  expires_at timestamp with time zone NOT NULL,
  CONSTRAINT oidc_exchange_pkey PRIMARY KEY (hash),
  CONSTRAINT oidc_exchange_purpose_check CHECK ((purpose = ANY (ARRAY['sign_in'::text, 'link'::text])))
);

CREATE TABLE one_time_link (
  hash bytea NOT NULL,
  kind text NOT NULL,
  account_id uuid NOT NULL,
  removes_second_factor boolean NOT NULL DEFAULT false,
  made_in uuid,
  created_by uuid,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  expires_at timestamp with time zone NOT NULL,
  used_at timestamp with time zone,
  CONSTRAINT one_time_link_account_id_fkey FOREIGN KEY (account_id) REFERENCES account(account_id),
  CONSTRAINT one_time_link_created_by_fkey FOREIGN KEY (created_by) REFERENCES account(account_id),
  CONSTRAINT one_time_link_hash_check CHECK ((length(hash) = 32)),
  CONSTRAINT one_time_link_kind_check CHECK ((kind = 'password_reset'::text)),
  CONSTRAINT one_time_link_made_in_fkey FOREIGN KEY (made_in) REFERENCES tenant(tenant_id),
  CONSTRAINT one_time_link_pkey PRIMARY KEY (hash)
);

CREATE TABLE passkey (
  account_id uuid NOT NULL,
  passkey_id uuid NOT NULL,
  credential_id bytea NOT NULL,
  public_key bytea NOT NULL,
  sign_count bigint NOT NULL,
  transports text[] NOT NULL DEFAULT '{}'::text[],
  name text NOT NULL,
  synced boolean NOT NULL,
  created_at timestamp with time zone NOT NULL,
  last_used_at timestamp with time zone,
  CONSTRAINT passkey_account_id_fkey FOREIGN KEY (account_id) REFERENCES account(account_id),
  CONSTRAINT passkey_credential_id_check CHECK (((length(credential_id) >= 1) AND (length(credential_id) <= 1023))),
  CONSTRAINT passkey_credential_id_key UNIQUE (credential_id),
  CONSTRAINT passkey_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100))),
  CONSTRAINT passkey_pkey PRIMARY KEY (account_id, passkey_id)
);

CREATE TABLE passkey_challenge (
  hash bytea NOT NULL,
  expires_at timestamp with time zone NOT NULL,
  CONSTRAINT passkey_challenge_hash_check CHECK ((length(hash) = 32)),
  CONSTRAINT passkey_challenge_pkey PRIMARY KEY (hash)
);

CREATE TABLE plan (
  tenant_id uuid NOT NULL,
  plan_id uuid NOT NULL,
  name text NOT NULL,
  limit_bytes bigint,
  period text NOT NULL DEFAULT 'none'::text,
  duration_days integer,
  device_limit integer NOT NULL DEFAULT 1,
  engines text[] NOT NULL,
  offline_policy text NOT NULL DEFAULT 'deny'::text,
  version integer NOT NULL DEFAULT 1,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  archived_at timestamp with time zone,
  name_key text,
  starts_on_first_use boolean NOT NULL DEFAULT false,
  next_plan_id uuid,
  CONSTRAINT plan_device_limit_check CHECK (((device_limit >= 1) AND (device_limit <= 256))),
  CONSTRAINT plan_duration_days_check CHECK (((duration_days >= 1) AND (duration_days <= 36500))),
  CONSTRAINT plan_engines_check CHECK (((engines <@ ARRAY['xray'::text, 'wireguard'::text]) AND (cardinality(engines) > 0))),
  CONSTRAINT plan_limit_bytes_check CHECK ((limit_bytes >= 0)),
  CONSTRAINT plan_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100))),
  CONSTRAINT plan_offline_policy_check CHECK ((offline_policy = ANY (ARRAY['deny'::text, 'grace'::text]))),
  CONSTRAINT plan_period_check CHECK ((period = ANY (ARRAY['none'::text, 'day'::text, 'week'::text, 'month'::text]))),
  CONSTRAINT plan_pkey PRIMARY KEY (tenant_id, plan_id),
  CONSTRAINT plan_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id),
  CONSTRAINT plan_tenant_id_next_plan_id_fkey FOREIGN KEY (tenant_id, next_plan_id) REFERENCES plan(tenant_id, plan_id)
);

CREATE TABLE plan_node_group (
  tenant_id uuid NOT NULL,
  plan_id uuid NOT NULL,
  node_group_id uuid NOT NULL,
  CONSTRAINT plan_node_group_node_group_id_fkey FOREIGN KEY (node_group_id) REFERENCES node_group(node_group_id),
  CONSTRAINT plan_node_group_pkey PRIMARY KEY (tenant_id, plan_id, node_group_id),
  CONSTRAINT plan_node_group_tenant_id_plan_id_fkey FOREIGN KEY (tenant_id, plan_id) REFERENCES plan(tenant_id, plan_id)
);

CREATE TABLE platform (
  one boolean NOT NULL DEFAULT true,
  tenant_id uuid NOT NULL,
  CONSTRAINT platform_one_check CHECK (one),
  CONSTRAINT platform_pkey PRIMARY KEY (one),
  CONSTRAINT platform_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id)
);

CREATE TABLE quarantine_release (
  tenant_id uuid NOT NULL,
  quarantine_id uuid NOT NULL,
  asked_at timestamp with time zone NOT NULL,
  asked_by uuid,
  retry_at timestamp with time zone NOT NULL DEFAULT '-infinity'::timestamp with time zone,
  CONSTRAINT quarantine_release_pkey PRIMARY KEY (tenant_id, quarantine_id)
);

CREATE TABLE reattest_request (
  node_id uuid NOT NULL,
  public_key_hash bytea NOT NULL,
  expired_at timestamp with time zone NOT NULL,
  asked_at timestamp with time zone NOT NULL,
  address text NOT NULL DEFAULT ''::text,
  approved_at timestamp with time zone,
  approved_by uuid,
  CONSTRAINT reattest_request_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(node_id),
  CONSTRAINT reattest_request_pkey PRIMARY KEY (node_id),
  CONSTRAINT reattest_request_public_key_hash_check CHECK ((length(public_key_hash) = 32))
);

CREATE TABLE recovery_code (
  account_id uuid NOT NULL,
  hash bytea NOT NULL,
  used_at timestamp with time zone,
  CONSTRAINT recovery_code_account_id_fkey FOREIGN KEY (account_id) REFERENCES account(account_id),
  CONSTRAINT recovery_code_hash_check CHECK ((length(hash) = 32)),
  CONSTRAINT recovery_code_pkey PRIMARY KEY (account_id, hash)
);

CREATE TABLE revision (
  node_id uuid NOT NULL,
  revision bigint NOT NULL,
  fence bigint NOT NULL,
  digest bytea NOT NULL,
  upserts integer NOT NULL,
  removals integer NOT NULL,
  created_at timestamp with time zone NOT NULL,
  sent_at timestamp with time zone,
  acknowledged_at timestamp with time zone,
  applied_at timestamp with time zone,
  error_code text,
  error_message text,
  CONSTRAINT revision_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(node_id),
  CONSTRAINT revision_pkey PRIMARY KEY (node_id, revision)
);

CREATE TABLE session (
  session_id uuid NOT NULL,
  account_id uuid NOT NULL,
  family_id uuid NOT NULL,
  refresh_hash bytea NOT NULL,
  parent_id uuid,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  expires_at timestamp with time zone NOT NULL,
  rotated_at timestamp with time zone,
  revoked_at timestamp with time zone,
  ip inet,
  user_agent text,
  only_tenant_id uuid,
  CONSTRAINT session_account_id_fkey FOREIGN KEY (account_id) REFERENCES account(account_id),
  CONSTRAINT session_only_tenant_id_fkey FOREIGN KEY (only_tenant_id) REFERENCES tenant(tenant_id),
  CONSTRAINT session_parent_id_fkey FOREIGN KEY (parent_id) REFERENCES session(session_id) ON DELETE SET NULL,
  CONSTRAINT session_pkey PRIMARY KEY (session_id),
  CONSTRAINT session_refresh_hash_key UNIQUE (refresh_hash)
);

CREATE TABLE session_tenant (
  tenant_id uuid NOT NULL,
  family_id uuid NOT NULL,
  account_id uuid NOT NULL,
  CONSTRAINT session_tenant_account_id_fkey FOREIGN KEY (account_id) REFERENCES account(account_id),
  CONSTRAINT session_tenant_pkey PRIMARY KEY (tenant_id, family_id),
  CONSTRAINT session_tenant_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id)
);

CREATE TABLE setting (
  key text NOT NULL,
  value jsonb NOT NULL,
  version integer NOT NULL DEFAULT 1,
  updated_at timestamp with time zone NOT NULL,
  CONSTRAINT setting_pkey PRIMARY KEY (key)
);

CREATE TABLE setup_link (
  hash bytea NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  used_at timestamp with time zone,
  CONSTRAINT setup_link_pkey PRIMARY KEY (hash)
);

CREATE TABLE signing_key (
  kid text NOT NULL,
  state text NOT NULL,
  public_jwk jsonb NOT NULL,
  private_sealed bytea,
  created_at timestamp with time zone NOT NULL,
  activated_at timestamp with time zone,
  demoted_at timestamp with time zone,
  needed_until timestamp with time zone,
  retired_at timestamp with time zone,
  CONSTRAINT signing_key_check CHECK (((private_sealed IS NULL) = (state = 'retired'::text))),
  CONSTRAINT signing_key_kid_check CHECK ((kid ~ '^[A-Za-z0-9_-]{43}$'::text)),
  CONSTRAINT signing_key_pkey PRIMARY KEY (kid),
  CONSTRAINT signing_key_state_check CHECK ((state = ANY (ARRAY['next'::text, 'current'::text, 'previous'::text, 'retired'::text])))
);

CREATE TABLE slice_head (
  tenant_id uuid NOT NULL,
  node_id uuid NOT NULL,
  digest bytea NOT NULL,
  CONSTRAINT slice_head_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(node_id),
  CONSTRAINT slice_head_pkey PRIMARY KEY (tenant_id, node_id)
) WITH (fillfactor=60);

CREATE TABLE statement (
  tenant_id uuid NOT NULL,
  statement_id uuid NOT NULL,
  month date NOT NULL,
  time_zone text NOT NULL,
  lines integer NOT NULL,
  up_bytes numeric NOT NULL,
  down_bytes numeric NOT NULL,
  billable_bytes numeric NOT NULL,
  corrections integer NOT NULL,
  closed_at timestamp with time zone NOT NULL,
  key_id uuid NOT NULL,
  header text NOT NULL,
  signature bytea NOT NULL,
  digest bytea NOT NULL,
  CONSTRAINT statement_key_id_fkey FOREIGN KEY (key_id) REFERENCES statement_key(key_id),
  CONSTRAINT statement_month_check CHECK ((EXTRACT(day FROM month) = (1)::numeric)),
  CONSTRAINT statement_pkey PRIMARY KEY (tenant_id, statement_id),
  CONSTRAINT statement_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id)
);

CREATE TABLE statement_key (
  key_id uuid NOT NULL,
  public_key bytea NOT NULL,
  private_key bytea NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  retired_at timestamp with time zone,
  CONSTRAINT statement_key_pkey PRIMARY KEY (key_id)
);

CREATE TABLE statement_line (
  tenant_id uuid NOT NULL,
  statement_id uuid NOT NULL,
  month date NOT NULL,
  subscription_id uuid NOT NULL,
  engine smallint NOT NULL,
  up_bytes bigint NOT NULL,
  down_bytes bigint NOT NULL,
  billable_bytes bigint NOT NULL,
  CONSTRAINT statement_line_pkey PRIMARY KEY (tenant_id, statement_id, month, subscription_id, engine)
);

CREATE TABLE stream_head (
  node_id uuid NOT NULL,
  epoch integer NOT NULL,
  seq bigint NOT NULL,
  digest bytea NOT NULL,
  fence bigint NOT NULL,
  holder text NOT NULL,
  frozen_at timestamp with time zone,
  frozen_reason text,
  accepted_at timestamp with time zone NOT NULL,
  CONSTRAINT stream_head_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(node_id),
  CONSTRAINT stream_head_pkey PRIMARY KEY (node_id)
);

CREATE TABLE stream_release (
  node_id uuid NOT NULL,
  frozen_at timestamp with time zone NOT NULL,
  asked_at timestamp with time zone NOT NULL,
  asked_by uuid,
  CONSTRAINT stream_release_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(node_id),
  CONSTRAINT stream_release_pkey PRIMARY KEY (node_id)
);

CREATE TABLE stream_watermark (
  node_id uuid NOT NULL,
  kind text NOT NULL,
  epoch integer NOT NULL,
  seq bigint NOT NULL,
  fence bigint NOT NULL,
  CONSTRAINT stream_watermark_kind_check CHECK ((kind = ANY (ARRAY['counter'::text, 'meter'::text, 'series'::text]))),
  CONSTRAINT stream_watermark_node_id_fkey FOREIGN KEY (node_id) REFERENCES node(node_id),
  CONSTRAINT stream_watermark_pkey PRIMARY KEY (node_id, kind)
);

CREATE TABLE subscription (
  tenant_id uuid NOT NULL,
  subscription_id uuid NOT NULL,
  plan_id uuid NOT NULL,
  name text NOT NULL,
  external_ref text,
  admin_state text NOT NULL DEFAULT 'active'::text,
  limit_bytes bigint,
  period text NOT NULL DEFAULT 'none'::text,
  engines text[] NOT NULL,
  device_limit integer NOT NULL DEFAULT 1,
  expires_at timestamp with time zone,
  secret bytea NOT NULL,
  version integer NOT NULL DEFAULT 1,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  deleted_at timestamp with time zone,
  on_hold boolean NOT NULL DEFAULT false,
  hold_deadline timestamp with time zone,
  duration_days integer,
  activated_at timestamp with time zone,
  next_plan_id uuid,
  next_plan_at timestamp with time zone,
  erased_at timestamp with time zone,
  name_fold text DEFAULT lower(name),
  ref_fold text DEFAULT lower(external_ref),
  CONSTRAINT subscription_admin_state_check CHECK ((admin_state = ANY (ARRAY['active'::text, 'disabled'::text, 'deleted'::text]))),
  CONSTRAINT subscription_duration_days_check CHECK (((duration_days >= 1) AND (duration_days <= 36500))),
  CONSTRAINT subscription_engines_check CHECK (((engines <@ ARRAY['xray'::text, 'wireguard'::text]) AND (cardinality(engines) > 0))),
  CONSTRAINT subscription_external_ref_check CHECK ((length(external_ref) <= 200)),
  CONSTRAINT subscription_limit_bytes_check CHECK ((limit_bytes >= 0)),
  CONSTRAINT subscription_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100))),
  CONSTRAINT subscription_period_check CHECK ((period = ANY (ARRAY['none'::text, 'day'::text, 'week'::text, 'month'::text]))),
  CONSTRAINT subscription_pkey PRIMARY KEY (tenant_id, subscription_id),
  CONSTRAINT subscription_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id),
  CONSTRAINT subscription_tenant_id_next_plan_id_fkey FOREIGN KEY (tenant_id, next_plan_id) REFERENCES plan(tenant_id, plan_id),
  CONSTRAINT subscription_tenant_id_plan_id_fkey FOREIGN KEY (tenant_id, plan_id) REFERENCES plan(tenant_id, plan_id)
);

CREATE TABLE subscription_act (
  tenant_id uuid NOT NULL,
  act_id uuid NOT NULL,
  subscription_id uuid NOT NULL,
  kind text NOT NULL,
  bytes bigint,
  plan_id uuid,
  requested_at timestamp with time zone NOT NULL DEFAULT clock_timestamp(),
  done_at timestamp with time zone,
  CONSTRAINT subscription_act_bytes_check CHECK ((bytes > 0)),
  CONSTRAINT subscription_act_kind_check CHECK ((kind = ANY (ARRAY['reset'::text, 'renew'::text, 'top_up'::text, 'start'::text, 'next_plan'::text]))),
  CONSTRAINT subscription_act_pkey PRIMARY KEY (tenant_id, act_id),
  CONSTRAINT subscription_act_tenant_id_subscription_id_fkey FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscription(tenant_id, subscription_id)
);

CREATE TABLE subscription_state (
  tenant_id uuid NOT NULL,
  subscription_id uuid NOT NULL,
  effective_state text NOT NULL,
  reason text NOT NULL DEFAULT ''::text,
  since timestamp with time zone NOT NULL,
  CONSTRAINT subscription_state_effective_state_check CHECK ((effective_state = ANY (ARRAY['on_hold'::text, 'active'::text, 'limited'::text, 'expired'::text, 'disabled'::text]))),
  CONSTRAINT subscription_state_pkey PRIMARY KEY (tenant_id, subscription_id),
  CONSTRAINT subscription_state_tenant_id_subscription_id_fkey FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscription(tenant_id, subscription_id)
);

CREATE TABLE tenant (
  tenant_id uuid NOT NULL,
  name text NOT NULL,
  kind text NOT NULL,
  state text NOT NULL DEFAULT 'active'::text,
  time_zone text NOT NULL DEFAULT 'UTC'::text,
  version integer NOT NULL DEFAULT 1,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  name_key text,
  suspended_at timestamp with time zone,
  limit_subscriptions integer,
  limit_nodes integer,
  limit_pool_bytes bigint,
  limit_api_per_minute integer,
  CONSTRAINT tenant_kind_check CHECK ((kind = ANY (ARRAY['platform'::text, 'customer'::text]))),
  CONSTRAINT tenant_limit_api_per_minute_check CHECK ((limit_api_per_minute > 0)),
  CONSTRAINT tenant_limit_nodes_check CHECK ((limit_nodes >= 0)),
  CONSTRAINT tenant_limit_pool_bytes_check CHECK ((limit_pool_bytes >= 0)),
  CONSTRAINT tenant_limit_subscriptions_check CHECK ((limit_subscriptions >= 0)),
  CONSTRAINT tenant_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100))),
  CONSTRAINT tenant_pkey PRIMARY KEY (tenant_id),
  CONSTRAINT tenant_state_check CHECK ((state = ANY (ARRAY['active'::text, 'suspended'::text])))
);

CREATE TABLE tenant_month (
  tenant_id uuid NOT NULL,
  month date NOT NULL,
  billable_bytes bigint NOT NULL,
  CONSTRAINT tenant_month_pkey PRIMARY KEY (tenant_id, month),
  CONSTRAINT tenant_month_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id)
) WITH (fillfactor=60);

CREATE TABLE tenant_pool (
  tenant_id uuid NOT NULL,
  exceeded boolean NOT NULL,
  since timestamp with time zone NOT NULL,
  CONSTRAINT tenant_pool_pkey PRIMARY KEY (tenant_id),
  CONSTRAINT tenant_pool_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id)
);

CREATE TABLE totp (
  account_id uuid NOT NULL,
  totp_id uuid NOT NULL,
  state text NOT NULL,
  secret bytea NOT NULL,
  last_step bigint NOT NULL DEFAULT 0,
  failures integer NOT NULL DEFAULT 0,
  locked_until timestamp with time zone,
  created_at timestamp with time zone NOT NULL,
  CONSTRAINT totp_account_id_fkey FOREIGN KEY (account_id) REFERENCES account(account_id),
  CONSTRAINT totp_pkey PRIMARY KEY (account_id, totp_id),
  CONSTRAINT totp_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'active'::text])))
);

CREATE TABLE usage_counter (
  tenant_id uuid NOT NULL,
  subscription_id uuid NOT NULL,
  period_id uuid NOT NULL,
  up_bytes bigint NOT NULL,
  down_bytes bigint NOT NULL,
  billable_bytes bigint NOT NULL,
  updated_at timestamp with time zone NOT NULL,
  CONSTRAINT usage_counter_pkey PRIMARY KEY (tenant_id, subscription_id, period_id)
) WITH (fillfactor=60);

CREATE TABLE usage_day (
  tenant_id uuid NOT NULL,
  day date NOT NULL,
  subscription_id uuid NOT NULL,
  node_id uuid NOT NULL,
  engine smallint NOT NULL,
  up_bytes bigint NOT NULL,
  down_bytes bigint NOT NULL,
  billable_bytes bigint NOT NULL,
  CONSTRAINT usage_day_pkey PRIMARY KEY (tenant_id, day, subscription_id, node_id, engine)
);

CREATE TABLE usage_hour (
  tenant_id uuid NOT NULL,
  day date NOT NULL,
  subscription_id uuid NOT NULL,
  hour timestamp with time zone NOT NULL,
  node_id uuid NOT NULL,
  engine smallint NOT NULL,
  up_bytes bigint NOT NULL,
  down_bytes bigint NOT NULL,
  billable_bytes bigint NOT NULL,
  CONSTRAINT usage_hour_pkey PRIMARY KEY (tenant_id, day, subscription_id, hour, node_id, engine)
) PARTITION BY RANGE (day);

CREATE TABLE usage_hour_default (
  tenant_id uuid NOT NULL,
  day date NOT NULL,
  subscription_id uuid NOT NULL,
  hour timestamp with time zone NOT NULL,
  node_id uuid NOT NULL,
  engine smallint NOT NULL,
  up_bytes bigint NOT NULL,
  down_bytes bigint NOT NULL,
  billable_bytes bigint NOT NULL,
  CONSTRAINT usage_hour_default_pkey PRIMARY KEY (tenant_id, day, subscription_id, hour, node_id, engine)
);

CREATE TABLE usage_node_hour (
  tenant_id uuid NOT NULL,
  day date NOT NULL,
  hour timestamp with time zone NOT NULL,
  node_id uuid NOT NULL,
  engine smallint NOT NULL,
  up_bytes bigint NOT NULL,
  down_bytes bigint NOT NULL,
  billable_bytes bigint NOT NULL,
  updated_at timestamp with time zone NOT NULL,
  CONSTRAINT usage_node_hour_pkey PRIMARY KEY (tenant_id, day, hour, node_id, engine)
);

CREATE TABLE usage_period (
  tenant_id uuid NOT NULL,
  subscription_id uuid NOT NULL,
  period_id uuid NOT NULL,
  started_at timestamp with time zone NOT NULL,
  ends_at timestamp with time zone,
  limit_bytes bigint,
  observed_bytes bigint NOT NULL DEFAULT 0,
  extra_bytes bigint NOT NULL DEFAULT 0,
  awaits_use boolean NOT NULL DEFAULT false,
  CONSTRAINT usage_period_extra_bytes_check CHECK ((extra_bytes >= 0)),
  CONSTRAINT usage_period_pkey PRIMARY KEY (tenant_id, subscription_id, period_id),
  CONSTRAINT usage_period_tenant_id_subscription_id_fkey FOREIGN KEY (tenant_id, subscription_id) REFERENCES subscription(tenant_id, subscription_id)
);

CREATE TABLE usage_quarantine (
  tenant_id uuid NOT NULL,
  node_id uuid NOT NULL,
  epoch integer NOT NULL,
  seq bigint NOT NULL,
  subscription_id uuid NOT NULL,
  engine smallint NOT NULL,
  up_bytes bigint NOT NULL,
  down_bytes bigint NOT NULL,
  reason text NOT NULL,
  created_at timestamp with time zone NOT NULL,
  released_at timestamp with time zone,
  quarantine_id uuid NOT NULL DEFAULT gen_random_uuid(),
  CONSTRAINT usage_quarantine_pkey PRIMARY KEY (tenant_id, node_id, epoch, seq, subscription_id, engine),
  CONSTRAINT usage_quarantine_reason_check CHECK ((reason = ANY (ARRAY['not_assigned'::text, 'above_link_rate'::text, 'no_period'::text])))
);

CREATE TABLE usage_rolled (
  tenant_id uuid NOT NULL,
  day date NOT NULL,
  node_id uuid NOT NULL,
  total_bytes numeric NOT NULL,
  rolled_at timestamp with time zone NOT NULL,
  CONSTRAINT usage_rolled_pkey PRIMARY KEY (tenant_id, day, node_id)
);

CREATE TABLE webhook (
  tenant_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  name text NOT NULL,
  url bytea NOT NULL,
  origin text NOT NULL,
  events text[] NOT NULL,
  secret bytea NOT NULL,
  old_secret bytea,
  old_until timestamp with time zone,
  enabled boolean NOT NULL DEFAULT true,
  disabled_reason text,
  version integer NOT NULL DEFAULT 1,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT webhook_events_check CHECK (((cardinality(events) >= 1) AND (cardinality(events) <= 100))),
  CONSTRAINT webhook_name_check CHECK (((length(name) >= 1) AND (length(name) <= 100))),
  CONSTRAINT webhook_pkey PRIMARY KEY (tenant_id, webhook_id),
  CONSTRAINT webhook_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES tenant(tenant_id)
);

CREATE TABLE webhook_delivery (
  tenant_id uuid NOT NULL,
  delivery_id uuid NOT NULL DEFAULT uuidv7(),
  webhook_id uuid NOT NULL,
  type text NOT NULL,
  body jsonb NOT NULL,
  state text NOT NULL DEFAULT 'pending'::text,
  attempts integer NOT NULL DEFAULT 0,
  next_at timestamp with time zone NOT NULL,
  http_status integer,
  error text,
  created_at timestamp with time zone NOT NULL,
  done_at timestamp with time zone,
  CONSTRAINT webhook_delivery_pkey PRIMARY KEY (tenant_id, delivery_id),
  CONSTRAINT webhook_delivery_state_check CHECK ((state = ANY (ARRAY['pending'::text, 'delivered'::text, 'failed'::text]))),
  CONSTRAINT webhook_delivery_tenant_id_webhook_id_fkey FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhook(tenant_id, webhook_id) ON DELETE CASCADE
);

CREATE TABLE webhook_health (
  tenant_id uuid NOT NULL,
  webhook_id uuid NOT NULL,
  failures integer NOT NULL,
  resume_at timestamp with time zone,
  CONSTRAINT webhook_health_pkey PRIMARY KEY (tenant_id, webhook_id),
  CONSTRAINT webhook_health_tenant_id_webhook_id_fkey FOREIGN KEY (tenant_id, webhook_id) REFERENCES webhook(tenant_id, webhook_id) ON DELETE CASCADE
);

CREATE TABLE webhook_position (
  one boolean NOT NULL DEFAULT true,
  xact xid8 NOT NULL,
  event_seq bigint NOT NULL,
  CONSTRAINT webhook_position_one_check CHECK (one),
  CONSTRAINT webhook_position_pkey PRIMARY KEY (one)
);

CREATE INDEX access_change_crossing ON public.access_change USING btree (change_id) WHERE (cause = 'crossing'::text);

CREATE INDEX api_key_account ON public.api_key USING btree (account_id);

CREATE INDEX assignment_node ON public.assignment USING btree (node_id);

CREATE INDEX assignment_subscription ON public.assignment USING btree (tenant_id, subscription_id);

CREATE INDEX audit_log_account ON public.audit_log USING btree (tenant_id, account_id, seq) WHERE (account_id IS NOT NULL);

CREATE INDEX audit_log_action ON public.audit_log USING btree (tenant_id, action, seq);

CREATE INDEX audit_log_at ON public.audit_log USING btree (tenant_id, at);

CREATE INDEX audit_log_entity ON public.audit_log USING btree (tenant_id, entity_id, seq) WHERE (entity_id IS NOT NULL);

CREATE INDEX certificate_node ON public.certificate USING btree (node_id);

CREATE INDEX device_subscription ON public.device USING btree (tenant_id, subscription_id);

CREATE INDEX enforcement_open ON public.enforcement USING btree (node_id) WHERE (state = ANY (ARRAY['ordered'::text, 'unproven'::text]));

CREATE INDEX event_at ON public.event USING btree (at);

CREATE INDEX event_order ON public.event USING btree (xact, event_seq);

CREATE INDEX idempotency_key_age ON public.idempotency_key USING btree (created_at);

CREATE INDEX identity_link_account ON public.identity_link USING btree (account_id);

CREATE INDEX ledger_frame_stream ON ONLY public.ledger_frame USING btree (node_id, epoch, seq);

CREATE INDEX ledger_slice_stream ON ONLY public.ledger_slice USING btree (node_id, epoch, seq);

CREATE INDEX machine_token_account ON public.machine_token USING btree (account_id);

CREATE INDEX member_account ON public.member USING btree (account_id);

CREATE INDEX meter_node ON public.meter USING btree (node_id, meter);

CREATE INDEX node_change_node ON public.node_change USING btree (node_id);

CREATE INDEX node_group_node_node ON public.node_group_node USING btree (node_id);

CREATE INDEX oidc_exchange_expires ON public.oidc_exchange USING btree (expires_at);

CREATE INDEX one_time_link_account ON public.one_time_link USING btree (account_id);

CREATE INDEX one_time_link_expiry ON public.one_time_link USING btree (expires_at);

CREATE INDEX passkey_challenge_expiry ON public.passkey_challenge USING btree (expires_at);

CREATE INDEX quarantine_release_due ON public.quarantine_release USING btree (tenant_id, retry_at, quarantine_id);

CREATE INDEX session_account ON public.session USING btree (account_id);

CREATE INDEX session_expiry ON public.session USING btree (expires_at);

CREATE INDEX session_family ON public.session USING btree (family_id);

CREATE INDEX session_parent ON public.session USING btree (parent_id);

CREATE INDEX session_tenant_account ON public.session_tenant USING btree (tenant_id, account_id);

CREATE INDEX session_tenant_family ON public.session_tenant USING btree (family_id);

CREATE INDEX slice_head_node ON public.slice_head USING btree (node_id);

CREATE INDEX statement_line_month ON public.statement_line USING btree (tenant_id, month, subscription_id, engine);

CREATE INDEX subscription_act_open ON public.subscription_act USING btree (tenant_id, subscription_id, requested_at) WHERE (done_at IS NULL);

CREATE INDEX subscription_act_subscription ON public.subscription_act USING btree (tenant_id, subscription_id, act_id);

CREATE INDEX subscription_admin_state ON public.subscription USING btree (tenant_id, admin_state, subscription_id) WHERE (deleted_at IS NULL);

CREATE INDEX subscription_end ON public.subscription USING btree (tenant_id, COALESCE(expires_at, 'infinity'::timestamp with time zone), subscription_id) WHERE (deleted_at IS NULL);

CREATE INDEX subscription_expiry ON public.subscription USING btree (expires_at) WHERE ((expires_at IS NOT NULL) AND (admin_state = 'active'::text));

CREATE INDEX subscription_hold ON public.subscription USING btree (hold_deadline) WHERE (on_hold AND (hold_deadline IS NOT NULL));

CREATE INDEX subscription_living ON public.subscription USING btree (tenant_id, subscription_id) WHERE (deleted_at IS NULL);

CREATE INDEX subscription_name ON public.subscription USING btree (tenant_id, name_fold, subscription_id) WHERE (deleted_at IS NULL);

CREATE INDEX subscription_plan ON public.subscription USING btree (tenant_id, plan_id, subscription_id) WHERE (deleted_at IS NULL);

CREATE INDEX subscription_ref ON public.subscription USING btree (tenant_id, ref_fold, subscription_id) WHERE ((deleted_at IS NULL) AND (ref_fold IS NOT NULL));

CREATE INDEX subscription_state_limited ON public.subscription_state USING btree (tenant_id, subscription_id) WHERE (effective_state = 'limited'::text);

CREATE INDEX subscription_state_list ON public.subscription_state USING btree (tenant_id, effective_state, subscription_id);

CREATE INDEX usage_node_hour_hour ON public.usage_node_hour USING btree (hour);

CREATE INDEX usage_node_hour_updated ON public.usage_node_hour USING btree (updated_at);

CREATE INDEX usage_period_end ON public.usage_period USING btree (ends_at) WHERE (ends_at IS NOT NULL);

CREATE INDEX usage_rolled_at ON public.usage_rolled USING btree (rolled_at);

CREATE INDEX webhook_delivery_done ON public.webhook_delivery USING btree (done_at) WHERE (state <> 'pending'::text);

CREATE INDEX webhook_delivery_due ON public.webhook_delivery USING btree (tenant_id, webhook_id, next_at) WHERE (state = 'pending'::text);

CREATE INDEX webhook_delivery_waiting ON public.webhook_delivery USING btree (created_at) WHERE (state = 'pending'::text);

CREATE INDEX webhook_delivery_webhook ON public.webhook_delivery USING btree (tenant_id, webhook_id, delivery_id);

CREATE UNIQUE INDEX account_same_email ON public.account USING btree (email_key) WHERE (email_key IS NOT NULL);

CREATE UNIQUE INDEX invitation_open ON public.invitation USING btree (tenant_id, email_key) WHERE ((accepted_at IS NULL) AND (revoked_at IS NULL));

CREATE UNIQUE INDEX node_address_device ON public.node_address USING btree (node_id, device_id) WHERE (released_at IS NULL);

CREATE UNIQUE INDEX node_group_name ON public.node_group USING btree (COALESCE(owner_tenant_id, '00000000-0000-0000-0000-000000000000'::uuid), name_key);

CREATE UNIQUE INDEX node_name ON public.node USING btree (COALESCE(owner_tenant_id, '00000000-0000-0000-0000-000000000000'::uuid), name_key) WHERE (state <> 'revoked'::text);

CREATE UNIQUE INDEX plan_name ON public.plan USING btree (tenant_id, name_key) WHERE (archived_at IS NULL);

CREATE UNIQUE INDEX signing_key_one ON public.signing_key USING btree (state) WHERE (state = ANY (ARRAY['next'::text, 'current'::text]));

CREATE UNIQUE INDEX statement_key_active ON public.statement_key USING btree ((true)) WHERE (retired_at IS NULL);

CREATE UNIQUE INDEX statement_month ON public.statement USING btree (tenant_id, month);

CREATE UNIQUE INDEX tenant_same_name ON public.tenant USING btree (name_key) WHERE (name_key IS NOT NULL);

CREATE UNIQUE INDEX totp_state ON public.totp USING btree (account_id, state);

CREATE UNIQUE INDEX usage_period_start ON public.usage_period USING btree (tenant_id, subscription_id, started_at);

CREATE UNIQUE INDEX usage_quarantine_id ON public.usage_quarantine USING btree (tenant_id, quarantine_id);

CREATE OR REPLACE FUNCTION public.app_account()
 RETURNS uuid
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$ SELECT nullif(current_setting('app.account_id', true), '')::uuid $function$
;

CREATE OR REPLACE FUNCTION public.app_is_platform()
 RETURNS boolean
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$ SELECT EXISTS (SELECT FROM platform p WHERE p.tenant_id = app_tenant()) $function$
;

CREATE OR REPLACE FUNCTION public.app_tenant()
 RETURNS uuid
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$ SELECT nullif(current_setting('app.tenant_id', true), '')::uuid $function$
;

CREATE OR REPLACE FUNCTION public.app_tenants()
 RETURNS uuid[]
 LANGUAGE sql
 STABLE PARALLEL SAFE
AS $function$ SELECT string_to_array(nullif(current_setting('app.tenant_ids', true), ''), ',')::uuid[] $function$
;

CREATE OR REPLACE FUNCTION public.drop_series_partitions(before date)
 RETURNS integer
 LANGUAGE plpgsql
AS $function$
DECLARE
  name text;
  dropped integer := 0;
BEGIN
  FOR name IN
    SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'usage_hour'::regclass AND c.relname ~ '^usage_hour_[0-9]{6}$'
      AND c.relname < 'usage_hour_' || to_char(before, 'YYYYMM')
  LOOP
    EXECUTE format('DROP TABLE %I', name);
    dropped := dropped + 1;
  END LOOP;
  RETURN dropped;
END
$function$
;

CREATE OR REPLACE FUNCTION public.event_of_audit()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  INSERT INTO event (tenant_id, type, entity, entity_id) SELECT tenant_id, action, entity, entity_id FROM added;
  RETURN NULL;
END $function$
;

CREATE OR REPLACE FUNCTION public.event_of_enforcement()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  INSERT INTO event (tenant_id, type, entity, entity_id, data)
  VALUES (NEW.tenant_id, 'enforcement.' || NEW.state, 'enforcement', NEW.subscription_id,
          jsonb_build_object('nodeId', NEW.node_id, 'kind', NEW.kind, 'cause', NEW.cause, 'revision', NEW.revision::text));
  RETURN NULL;
END $function$
;

CREATE OR REPLACE FUNCTION public.event_of_new_state()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  INSERT INTO event (tenant_id, type, entity, entity_id, data)
  SELECT tenant_id, 'subscription.state', 'subscription', subscription_id,
         jsonb_build_object('state', effective_state, 'reason', reason) FROM added;
  RETURN NULL;
END $function$
;

CREATE OR REPLACE FUNCTION public.event_of_state()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  INSERT INTO event (tenant_id, type, entity, entity_id, data)
  VALUES (NEW.tenant_id, 'subscription.state', 'subscription', NEW.subscription_id,
          jsonb_build_object('state', NEW.effective_state, 'reason', NEW.reason));
  RETURN NULL;
END $function$
;

CREATE OR REPLACE FUNCTION public.keep_multiplier()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO node_multiplier (node_id, from_at, per_mille) VALUES (NEW.node_id, '-infinity', NEW.multiplier_per_mille);
  ELSIF NEW.multiplier_per_mille <> OLD.multiplier_per_mille THEN
    INSERT INTO node_multiplier (node_id, from_at, per_mille)
    VALUES (NEW.node_id, clock_timestamp() + interval '5 minutes', NEW.multiplier_per_mille);
  END IF;
  RETURN NULL;
END
$function$
;

CREATE OR REPLACE FUNCTION public.known_zone(zone text)
 RETURNS text
 LANGUAGE plpgsql
 STABLE
AS $function$
BEGIN
  PERFORM now() AT TIME ZONE zone;
  RETURN zone;
EXCEPTION WHEN OTHERS THEN
  RETURN 'UTC';
END
$function$
;

CREATE OR REPLACE FUNCTION public.make_partitions(first date, days integer)
 RETURNS integer
 LANGUAGE plpgsql
AS $function$
DECLARE
  parent text;
  d date;
  name text;
  made integer := 0;
BEGIN
  FOREACH parent IN ARRAY ARRAY['ledger_frame', 'ledger_slice'] LOOP
    FOR i IN 0 .. days - 1 LOOP
      d := first + i;
      name := parent || '_' || to_char(d, 'YYYYMMDD');
      CONTINUE WHEN to_regclass(name) IS NOT NULL;
      EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE)', name, parent);
      -- The owner moves rows before row security is forced on either side; both changes are one transaction.
      EXECUTE format('ALTER TABLE %I NO FORCE ROW LEVEL SECURITY', parent || '_default');
      EXECUTE format('ALTER TABLE %I DISABLE TRIGGER append_only', parent || '_default');
      EXECUTE format('WITH moved AS (DELETE FROM %I WHERE accepted_on = %L RETURNING *) INSERT INTO %I SELECT * FROM moved',
        parent || '_default', d, name);
      EXECUTE format('ALTER TABLE %I ENABLE TRIGGER append_only', parent || '_default');
      EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', parent || '_default');
      EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
      EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
      EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name, d, d + 1);
      EXECUTE format('CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name);
      made := made + 1;
    END LOOP;
  END LOOP;
  RETURN made;
END
$function$
;

CREATE OR REPLACE FUNCTION public.make_series_partitions(first date, months integer)
 RETURNS integer
 LANGUAGE plpgsql
AS $function$
DECLARE
  d date;
  name text;
  made integer := 0;
BEGIN
  FOR i IN 0 .. months - 1 LOOP
    d := (date_trunc('month', first) + make_interval(months => i))::date;
    name := 'usage_hour_' || to_char(d, 'YYYYMM');
    CONTINUE WHEN to_regclass(name) IS NOT NULL;
    EXECUTE format('CREATE TABLE %I (LIKE usage_hour INCLUDING DEFAULTS INCLUDING CONSTRAINTS) WITH (fillfactor = 60)', name);
    -- The owner moves rows before row security is forced on either side; both changes are one transaction.
    ALTER TABLE usage_hour_default NO FORCE ROW LEVEL SECURITY;
    EXECUTE format('WITH moved AS (DELETE FROM usage_hour_default WHERE day >= %L AND day < %L RETURNING *)
      INSERT INTO %I SELECT * FROM moved', d, d + interval '1 month', name);
    ALTER TABLE usage_hour_default FORCE ROW LEVEL SECURITY;
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE usage_hour ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, d,
      (d + interval '1 month')::date);
    made := made + 1;
  END LOOP;
  RETURN made;
END
$function$
;

CREATE OR REPLACE FUNCTION public.month_of(at timestamp with time zone, zone text)
 RETURNS date
 LANGUAGE plpgsql
 STABLE
AS $function$
BEGIN
  RETURN date_trunc('month', at AT TIME ZONE zone)::date;
EXCEPTION WHEN invalid_parameter_value THEN
  RETURN date_trunc('month', at AT TIME ZONE 'UTC')::date;
END
$function$
;

CREATE OR REPLACE FUNCTION public.notify_access_change()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$ BEGIN PERFORM pg_notify('access_change', ''); RETURN NULL; END $function$
;

CREATE OR REPLACE FUNCTION public.notify_event()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  PERFORM pg_notify('event', tenant_id::text) FROM (SELECT DISTINCT tenant_id FROM added) t;
  RETURN NULL;
END $function$
;

CREATE OR REPLACE FUNCTION public.notify_signing_key()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$ BEGIN PERFORM pg_notify('signing_key', ''); RETURN NULL; END $function$
;

CREATE OR REPLACE FUNCTION public.notify_standing()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$ DECLARE
    r jsonb := to_jsonb(CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END);
  BEGIN
    PERFORM pg_notify('standing', TG_ARGV[0] || ':' || (r ->> TG_ARGV[1]));
    RETURN NULL;
  END $function$
;

CREATE OR REPLACE FUNCTION public.refuse_change()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = '42501'; END $function$
;

CREATE OR REPLACE FUNCTION public.refuse_key_change()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$ BEGIN
    IF OLD.retired_at IS NOT NULL
       OR (NEW.key_id, NEW.public_key, NEW.private_key, NEW.created_at)
          IS DISTINCT FROM (OLD.key_id, OLD.public_key, OLD.private_key, OLD.created_at) THEN
      RAISE EXCEPTION 'a statement key is retired once and never changed' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
  END $function$
;

CREATE OR REPLACE FUNCTION public.series_begin()
 RETURNS date
 LANGUAGE sql
 STABLE
AS $function$
  SELECT coalesce(min(to_date(right(c.relname, 6), 'YYYYMM')), '-infinity')
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
  WHERE i.inhparent = 'usage_hour'::regclass AND c.relname ~ '^usage_hour_[0-9]{6}$'
$function$
;

CREATE OR REPLACE FUNCTION public.session_inherits()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$ BEGIN
    SELECT p.only_tenant_id INTO NEW.only_tenant_id FROM session p WHERE p.session_id = NEW.parent_id;
    RETURN NEW;
  END $function$
;

CREATE TRIGGER access_change_notify AFTER INSERT ON public.access_change FOR EACH STATEMENT EXECUTE FUNCTION notify_access_change();

CREATE TRIGGER standing_account AFTER UPDATE ON public.account FOR EACH ROW WHEN (((old.disabled_at IS DISTINCT FROM new.disabled_at) OR (old.password_hash IS DISTINCT FROM new.password_hash))) EXECUTE FUNCTION notify_standing('a', 'account_id');

CREATE TRIGGER standing_api_key AFTER UPDATE OF revoked_at, expires_at, scopes, cidrs ON public.api_key FOR EACH ROW EXECUTE FUNCTION notify_standing('k', 'key_id');

CREATE TRIGGER audit_head_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_head FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER audit_log_append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.audit_log FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER audit_log_event AFTER INSERT ON public.audit_log REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION event_of_audit();

CREATE TRIGGER enforcement_event AFTER UPDATE ON public.enforcement FOR EACH ROW WHEN ((old.state <> new.state)) EXECUTE FUNCTION event_of_enforcement();

CREATE TRIGGER event_notify AFTER INSERT ON public.event REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION notify_event();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.ledger_frame FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.ledger_frame_default FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.ledger_slice FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.ledger_slice_default FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER standing_machine_token AFTER UPDATE OF revoked_at ON public.machine_token FOR EACH ROW EXECUTE FUNCTION notify_standing('t', 'tenant_id');

CREATE TRIGGER standing_member AFTER INSERT OR DELETE OR UPDATE ON public.member FOR EACH ROW EXECUTE FUNCTION notify_standing('a', 'account_id');

CREATE TRIGGER node_multiplier_history AFTER INSERT OR UPDATE OF multiplier_per_mille ON public.node FOR EACH ROW EXECUTE FUNCTION keep_multiplier();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.node_multiplier FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER session_inherits BEFORE INSERT ON public.session FOR EACH ROW WHEN ((new.parent_id IS NOT NULL)) EXECUTE FUNCTION session_inherits();

CREATE TRIGGER standing_session AFTER UPDATE OF revoked_at ON public.session FOR EACH ROW WHEN ((old.revoked_at IS DISTINCT FROM new.revoked_at)) EXECUTE FUNCTION notify_standing('a', 'account_id');

CREATE TRIGGER signing_key_changed AFTER INSERT OR UPDATE OF state ON public.signing_key FOR EACH STATEMENT EXECUTE FUNCTION notify_signing_key();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.statement FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER retired_once BEFORE UPDATE ON public.statement_key FOR EACH ROW EXECUTE FUNCTION refuse_key_change();

CREATE TRIGGER append_only BEFORE DELETE OR UPDATE OR TRUNCATE ON public.statement_line FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TRIGGER subscription_state_event_insert AFTER INSERT ON public.subscription_state REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION event_of_new_state();

CREATE TRIGGER subscription_state_event_update AFTER UPDATE ON public.subscription_state FOR EACH ROW WHEN (((old.effective_state IS DISTINCT FROM new.effective_state) OR (old.reason IS DISTINCT FROM new.reason))) EXECUTE FUNCTION event_of_state();

CREATE TRIGGER standing_tenant AFTER UPDATE OF state ON public.tenant FOR EACH ROW WHEN ((old.state IS DISTINCT FROM new.state)) EXECUTE FUNCTION notify_standing('t', 'tenant_id');

-- Row security
--   access_change: row security enabled and forced
--   account: row security off
--   api_key: row security enabled and forced
--   assignment: row security enabled and forced
--   audit_head: row security enabled and forced
--   audit_log: row security enabled and forced
--   certificate: row security enabled and forced
--   credential_route: row security enabled and forced
--   device: row security enabled and forced
--   device_key: row security off
--   enforcement: row security enabled and forced
--   event: row security enabled and forced
--   idempotency_key: row security enabled and forced
--   identity_link: row security enabled and forced
--   identity_provider: row security enabled and forced
--   inbound: row security enabled and forced
--   invitation: row security enabled and forced
--   join_token: row security enabled and forced
--   ledger_frame: row security off
--   ledger_frame_default: row security off and forced
--   ledger_slice: row security enabled and forced
--   ledger_slice_default: row security enabled and forced
--   loss_mark: row security off
--   machine_token: row security enabled and forced
--   member: row security enabled and forced
--   meter: row security enabled and forced
--   node: row security enabled and forced
--   node_address: row security off
--   node_change: row security enabled and forced
--   node_group: row security enabled and forced
--   node_group_node: row security enabled and forced
--   node_lease: row security off
--   node_multiplier: row security enabled and forced
--   node_status: row security off
--   oidc_exchange: row security off
--   one_time_link: row security off
--   passkey: row security enabled and forced
--   passkey_challenge: row security off
--   plan: row security enabled and forced
--   plan_node_group: row security enabled and forced
--   platform: row security off
--   quarantine_release: row security enabled and forced
--   reattest_request: row security enabled and forced
--   recovery_code: row security enabled and forced
--   revision: row security off
--   session: row security off
--   session_tenant: row security enabled and forced
--   setting: row security enabled and forced
--   setup_link: row security off
--   signing_key: row security off
--   slice_head: row security enabled and forced
--   statement: row security enabled and forced
--   statement_key: row security enabled and forced
--   statement_line: row security enabled and forced
--   stream_head: row security enabled and forced
--   stream_release: row security enabled and forced
--   stream_watermark: row security off
--   subscription: row security enabled and forced
--   subscription_act: row security enabled and forced
--   subscription_state: row security enabled and forced
--   tenant: row security enabled and forced
--   tenant_month: row security enabled and forced
--   tenant_pool: row security enabled and forced
--   totp: row security enabled and forced
--   usage_counter: row security enabled and forced
--   usage_day: row security enabled and forced
--   usage_hour: row security enabled and forced
--   usage_hour_default: row security enabled and forced
--   usage_node_hour: row security enabled and forced
--   usage_period: row security enabled and forced
--   usage_quarantine: row security enabled and forced
--   usage_rolled: row security enabled and forced
--   webhook: row security enabled and forced
--   webhook_delivery: row security enabled and forced
--   webhook_health: row security enabled and forced
--   webhook_position: row security off

-- Policies
--   access_change: of_platform FOR INSERT TO penstock_control_api USING (–) CHECK (((cause = 'tenant'::text) AND (subscription_id IS NULL) AND (node_id IS NULL) AND ( SELECT app_is_platform() AS app_is_platform)))
--   access_change: served_tenants FOR ALL TO penstock_collector USING ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[]))) CHECK ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[])))
--   access_change: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   access_change: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   api_key: of_account_reset FOR SELECT TO penstock_control_api USING ((account_id = ( SELECT (NULLIF(current_setting('app.keys_of'::text, true), ''::text))::uuid AS "nullif"))) CHECK (–)
--   api_key: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   assignment: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   assignment: sweep_assignments FOR SELECT TO penstock_collector, penstock_reader USING (true) CHECK (–)
--   assignment: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   audit_head: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   audit_head: tenant_of_transaction FOR SELECT TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK (–)
--   audit_log: sweep FOR SELECT TO penstock_scheduler USING (true) CHECK (–)
--   audit_log: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   certificate: own FOR SELECT TO penstock_control_api USING ((EXISTS ( SELECT FROM node n WHERE ((n.node_id = certificate.node_id) AND ((n.owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform)))))) CHECK (–)
--   certificate: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   certificate: sweep_readers FOR SELECT TO penstock_collector, penstock_reader USING (true) CHECK (–)
--   credential_route: by_hash FOR SELECT TO penstock_control_api, penstock_scheduler USING (true) CHECK (–)
--   credential_route: tenant_of_transaction FOR INSERT TO penstock_control_api USING (–) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   credential_route: tenant_of_transaction_delete FOR DELETE TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK (–)
--   device: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   device: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   enforcement: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   enforcement: sweep_reader FOR SELECT TO penstock_reader USING (true) CHECK (–)
--   enforcement: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   event: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   event: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   idempotency_key: sweep FOR ALL TO penstock_scheduler USING ((created_at < (now() - '24:00:00'::interval))) CHECK (–)
--   idempotency_key: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   identity_link: of_sign_in FOR SELECT TO penstock_control_api USING ((identity_provider_id = (NULLIF(current_setting('app.identity_provider_id'::text, true), ''::text))::uuid)) CHECK (–)
--   identity_link: tenant_of_transaction FOR ALL TO penstock_control_api USING (((tenant_id = ( SELECT app_tenant() AS app_tenant)) OR (account_id = ( SELECT app_account() AS app_account)))) CHECK ((account_id = ( SELECT app_account() AS app_account)))
--   identity_provider: of_sign_in FOR SELECT TO penstock_control_api USING ((identity_provider_id = (NULLIF(current_setting('app.identity_provider_id'::text, true), ''::text))::uuid)) CHECK (–)
--   identity_provider: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   inbound: own_delete FOR DELETE TO penstock_control_api USING ((EXISTS ( SELECT FROM node n WHERE ((n.node_id = inbound.node_id) AND ((n.owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform)))))) CHECK (–)
--   inbound: own_insert FOR INSERT TO penstock_control_api USING (–) CHECK ((EXISTS ( SELECT FROM node n WHERE ((n.node_id = inbound.node_id) AND ((n.owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform))))))
--   inbound: own_update FOR UPDATE TO penstock_control_api USING ((EXISTS ( SELECT FROM node n WHERE ((n.node_id = inbound.node_id) AND ((n.owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform)))))) CHECK (–)
--   inbound: sweep FOR SELECT TO penstock_scheduler USING (true) CHECK (–)
--   inbound: visible FOR SELECT TO penstock_control_api USING ((EXISTS ( SELECT FROM node n WHERE (n.node_id = inbound.node_id)))) CHECK (–)
--   invitation: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   join_token: sweep FOR SELECT TO penstock_scheduler USING (true) CHECK (–)
--   join_token: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK (((tenant_id = ( SELECT app_tenant() AS app_tenant)) AND (EXISTS ( SELECT FROM node n WHERE ((n.node_id = join_token.node_id) AND ((n.owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform)))))))
--   ledger_slice: served_tenants FOR ALL TO penstock_collector USING ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[]))) CHECK ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[])))
--   ledger_slice: sweep_reader FOR SELECT TO penstock_reader USING (true) CHECK (–)
--   ledger_slice: tenant_of_transaction FOR SELECT TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK (–)
--   machine_token: of_account_reset FOR SELECT TO penstock_control_api USING ((account_id = ( SELECT (NULLIF(current_setting('app.keys_of'::text, true), ''::text))::uuid AS "nullif"))) CHECK (–)
--   machine_token: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   member: tenant_of_transaction FOR ALL TO penstock_control_api USING (((tenant_id = ( SELECT app_tenant() AS app_tenant)) OR (account_id = ( SELECT app_account() AS app_account)))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   meter: served_tenants FOR ALL TO penstock_collector USING ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[]))) CHECK ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[])))
--   meter: sweep_reader FOR SELECT TO penstock_reader USING (true) CHECK (–)
--   meter: tenant_of_transaction FOR SELECT TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK (–)
--   node: own_insert FOR INSERT TO penstock_control_api USING (–) CHECK (((owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform)))
--   node: own_update FOR UPDATE TO penstock_control_api USING (((owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform))) CHECK (((owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform)))
--   node: sweep FOR ALL TO penstock_collector, penstock_reader, penstock_scheduler USING (true) CHECK (–)
--   node: visible FOR SELECT TO penstock_control_api USING (((( SELECT app_tenant() AS app_tenant) IS NOT NULL) AND ((owner_tenant_id IS NULL) OR (owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform)))) CHECK (–)
--   node_change: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   node_change: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   node_group: own_delete FOR DELETE TO penstock_control_api USING (((owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform))) CHECK (–)
--   node_group: own_insert FOR INSERT TO penstock_control_api USING (–) CHECK (((owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform)))
--   node_group: own_update FOR UPDATE TO penstock_control_api USING (((owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform))) CHECK (((owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform)))
--   node_group: sweep FOR SELECT TO penstock_reader, penstock_scheduler USING (true) CHECK (–)
--   node_group: visible FOR SELECT TO penstock_control_api USING (((( SELECT app_tenant() AS app_tenant) IS NOT NULL) AND ((owner_tenant_id IS NULL) OR (owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform)))) CHECK (–)
--   node_group_node: own_delete FOR DELETE TO penstock_control_api USING ((EXISTS ( SELECT FROM node_group g WHERE ((g.node_group_id = node_group_node.node_group_id) AND ((g.owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform)))))) CHECK (–)
--   node_group_node: own_insert FOR INSERT TO penstock_control_api USING (–) CHECK (((EXISTS ( SELECT FROM node_group g WHERE ((g.node_group_id = node_group_node.node_group_id) AND ((g.owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform))))) AND (EXISTS ( SELECT FROM node n WHERE ((n.node_id = node_group_node.node_id) AND ((n.owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform)))))))
--   node_group_node: sweep FOR SELECT TO penstock_reader, penstock_scheduler USING (true) CHECK (–)
--   node_group_node: visible FOR SELECT TO penstock_control_api USING ((EXISTS ( SELECT FROM node_group g WHERE (g.node_group_id = node_group_node.node_group_id)))) CHECK (–)
--   node_multiplier: own_insert FOR INSERT TO penstock_control_api USING (–) CHECK ((EXISTS ( SELECT FROM node n WHERE ((n.node_id = node_multiplier.node_id) AND ((n.owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform))))))
--   node_multiplier: sweep FOR SELECT TO penstock_collector, penstock_reader USING (true) CHECK (–)
--   node_multiplier: visible FOR SELECT TO penstock_control_api USING ((EXISTS ( SELECT FROM node n WHERE (n.node_id = node_multiplier.node_id)))) CHECK (–)
--   passkey: by_credential FOR SELECT TO penstock_control_api USING ((( SELECT app_account() AS app_account) IS NULL)) CHECK (–)
--   passkey: own_account FOR ALL TO penstock_control_api USING ((account_id = ( SELECT app_account() AS app_account))) CHECK ((account_id = ( SELECT app_account() AS app_account)))
--   plan: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   plan: sweep_reader FOR SELECT TO penstock_reader USING (true) CHECK (–)
--   plan: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   plan_node_group: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   plan_node_group: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   quarantine_release: sweep FOR ALL TO penstock_collector USING (true) CHECK (–)
--   quarantine_release: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   reattest_request: own FOR SELECT TO penstock_control_api USING ((EXISTS ( SELECT FROM node n WHERE ((n.node_id = reattest_request.node_id) AND ((n.owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform)))))) CHECK (–)
--   reattest_request: own_update FOR UPDATE TO penstock_control_api USING ((EXISTS ( SELECT FROM node n WHERE ((n.node_id = reattest_request.node_id) AND ((n.owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform)))))) CHECK ((EXISTS ( SELECT FROM node n WHERE ((n.node_id = reattest_request.node_id) AND ((n.owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform))))))
--   reattest_request: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   recovery_code: own_account FOR ALL TO penstock_control_api USING ((account_id = ( SELECT app_account() AS app_account))) CHECK ((account_id = ( SELECT app_account() AS app_account)))
--   session_tenant: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (–)
--   session_tenant: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   setting: of_everybody FOR SELECT TO penstock_control_api, penstock_scheduler USING (true) CHECK (–)
--   setting: of_platform FOR INSERT TO penstock_control_api USING (–) CHECK (( SELECT app_is_platform() AS app_is_platform))
--   setting: of_platform_update FOR UPDATE TO penstock_control_api USING (( SELECT app_is_platform() AS app_is_platform)) CHECK (( SELECT app_is_platform() AS app_is_platform))
--   slice_head: served_tenants FOR ALL TO penstock_collector USING ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[]))) CHECK ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[])))
--   slice_head: sweep_reader FOR SELECT TO penstock_reader USING (true) CHECK (–)
--   slice_head: tenant_of_transaction FOR SELECT TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK (–)
--   statement: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   statement: sweep_reader FOR SELECT TO penstock_reader USING (true) CHECK (–)
--   statement: tenant_of_transaction FOR SELECT TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK (–)
--   statement_key: platform_insert FOR INSERT TO penstock_control_api USING (–) CHECK (( SELECT app_is_platform() AS app_is_platform))
--   statement_key: platform_update FOR UPDATE TO penstock_control_api USING (( SELECT app_is_platform() AS app_is_platform)) CHECK (( SELECT app_is_platform() AS app_is_platform))
--   statement_key: published FOR SELECT TO penstock_control_api, penstock_reader USING (true) CHECK (–)
--   statement_key: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   statement_line: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   statement_line: sweep_reader FOR SELECT TO penstock_reader USING (true) CHECK (–)
--   statement_line: tenant_of_transaction FOR SELECT TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK (–)
--   stream_head: own FOR SELECT TO penstock_control_api USING ((EXISTS ( SELECT FROM node n WHERE ((n.node_id = stream_head.node_id) AND ((n.owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform)))))) CHECK (–)
--   stream_head: sweep FOR ALL TO penstock_collector USING (true) CHECK (true)
--   stream_head: sweep_readers FOR SELECT TO penstock_reader, penstock_scheduler USING (true) CHECK (–)
--   stream_release: own FOR SELECT TO penstock_control_api USING ((EXISTS ( SELECT FROM node n WHERE ((n.node_id = stream_release.node_id) AND ((n.owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform)))))) CHECK (–)
--   stream_release: own_insert FOR INSERT TO penstock_control_api USING (–) CHECK ((EXISTS ( SELECT FROM node n WHERE ((n.node_id = stream_release.node_id) AND ((n.owner_tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform))))))
--   stream_release: sweep FOR ALL TO penstock_collector USING (true) CHECK (true)
--   subscription: served_tenants FOR ALL TO penstock_collector USING ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[]))) CHECK ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[])))
--   subscription: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   subscription: sweep_reader FOR SELECT TO penstock_reader USING (true) CHECK (–)
--   subscription: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   subscription_act: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   subscription_act: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   subscription_state: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   subscription_state: sweep_reader FOR SELECT TO penstock_reader USING (true) CHECK (–)
--   subscription_state: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   tenant: served_tenants FOR SELECT TO penstock_collector USING ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[]))) CHECK (–)
--   tenant: served_tenants_month FOR SELECT TO penstock_collector USING ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[]))) CHECK (–)
--   tenant: sweep FOR SELECT TO penstock_reader, penstock_scheduler USING (true) CHECK (–)
--   tenant: tenant_of_transaction FOR ALL TO penstock_control_api USING (((tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform) OR (EXISTS ( SELECT FROM member m WHERE ((m.tenant_id = tenant.tenant_id) AND (m.account_id = ( SELECT app_account() AS app_account))))))) CHECK (((tenant_id = ( SELECT app_tenant() AS app_tenant)) OR ( SELECT app_is_platform() AS app_is_platform)))
--   tenant_month: served_tenants FOR ALL TO penstock_collector USING ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[]))) CHECK ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[])))
--   tenant_month: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   tenant_month: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   tenant_pool: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   tenant_pool: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   totp: own_account FOR ALL TO penstock_control_api USING ((account_id = ( SELECT app_account() AS app_account))) CHECK ((account_id = ( SELECT app_account() AS app_account)))
--   usage_counter: served_tenants FOR ALL TO penstock_collector USING ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[]))) CHECK ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[])))
--   usage_counter: sweep FOR SELECT TO penstock_scheduler USING (true) CHECK (–)
--   usage_counter: sweep_reader FOR SELECT TO penstock_reader USING (true) CHECK (–)
--   usage_counter: tenant_of_transaction FOR SELECT TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK (–)
--   usage_day: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   usage_day: sweep_reader FOR SELECT TO penstock_reader USING (true) CHECK (–)
--   usage_day: tenant_of_transaction FOR SELECT TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK (–)
--   usage_hour: served_tenants FOR ALL TO penstock_collector USING ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[]))) CHECK ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[])))
--   usage_hour: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   usage_hour: sweep_reader FOR SELECT TO penstock_reader USING (true) CHECK (–)
--   usage_hour: tenant_of_transaction FOR SELECT TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK (–)
--   usage_node_hour: platform_reads FOR SELECT TO penstock_control_api USING (( SELECT app_is_platform() AS app_is_platform)) CHECK (–)
--   usage_node_hour: served_tenants FOR ALL TO penstock_collector USING ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[]))) CHECK ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[])))
--   usage_node_hour: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   usage_node_hour: sweep_reader FOR SELECT TO penstock_reader USING (true) CHECK (–)
--   usage_node_hour: tenant_of_transaction FOR SELECT TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK (–)
--   usage_period: served_tenants FOR ALL TO penstock_collector USING ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[]))) CHECK ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[])))
--   usage_period: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   usage_period: sweep_reader FOR SELECT TO penstock_reader USING (true) CHECK (–)
--   usage_period: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   usage_quarantine: served_tenants FOR ALL TO penstock_collector USING ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[]))) CHECK ((tenant_id = ANY (( SELECT app_tenants() AS app_tenants)::uuid[])))
--   usage_quarantine: sweep_reader FOR SELECT TO penstock_reader USING (true) CHECK (–)
--   usage_quarantine: tenant_of_transaction FOR SELECT TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK (–)
--   usage_rolled: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   usage_rolled: sweep_reader FOR SELECT TO penstock_reader USING (true) CHECK (–)
--   usage_rolled: tenant_of_transaction FOR SELECT TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK (–)
--   webhook: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   webhook: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   webhook_delivery: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   webhook_delivery: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))
--   webhook_health: sweep FOR ALL TO penstock_scheduler USING (true) CHECK (true)
--   webhook_health: tenant_of_transaction FOR ALL TO penstock_control_api USING ((tenant_id = ( SELECT app_tenant() AS app_tenant))) CHECK ((tenant_id = ( SELECT app_tenant() AS app_tenant)))

-- Grants
--   access_change: INSERT to penstock_collector
--   access_change: INSERT to penstock_control_api
--   access_change: DELETE, INSERT, SELECT, UPDATE to penstock_scheduler
--   account: INSERT, SELECT, UPDATE to penstock_control_api
--   api_key: INSERT, SELECT, UPDATE to penstock_control_api
--   assignment: SELECT to penstock_collector
--   assignment: SELECT to penstock_control_api
--   assignment: SELECT to penstock_reader
--   assignment: INSERT, SELECT, UPDATE to penstock_scheduler
--   audit_head: SELECT to penstock_control_api
--   audit_head: INSERT, SELECT to penstock_scheduler
--   audit_log: INSERT, SELECT to penstock_control_api
--   certificate: INSERT, SELECT, UPDATE to penstock_scheduler
--   credential_route: DELETE, INSERT, SELECT to penstock_control_api
--   credential_route: SELECT to penstock_scheduler
--   device: INSERT, SELECT, UPDATE to penstock_control_api
--   device: SELECT to penstock_scheduler
--   device_key: DELETE, INSERT, SELECT to penstock_control_api
--   enforcement: SELECT to penstock_control_api
--   enforcement: SELECT to penstock_reader
--   enforcement: INSERT, SELECT, UPDATE to penstock_scheduler
--   event: INSERT, SELECT to penstock_control_api
--   event: DELETE, INSERT, SELECT to penstock_scheduler
--   idempotency_key: INSERT, SELECT to penstock_control_api
--   idempotency_key: DELETE to penstock_scheduler
--   identity_link: DELETE, INSERT, SELECT to penstock_control_api
--   identity_provider: DELETE, INSERT, SELECT, UPDATE to penstock_control_api
--   inbound: DELETE, INSERT, SELECT, UPDATE to penstock_control_api
--   inbound: SELECT to penstock_scheduler
--   invitation: INSERT, SELECT, UPDATE to penstock_control_api
--   join_token: INSERT, SELECT, UPDATE to penstock_control_api
--   join_token: SELECT to penstock_scheduler
--   ledger_frame: INSERT, SELECT to penstock_collector
--   ledger_frame: SELECT to penstock_reader
--   ledger_slice: INSERT, SELECT to penstock_collector
--   ledger_slice: SELECT to penstock_reader
--   loss_mark: INSERT, SELECT to penstock_collector
--   loss_mark: SELECT to penstock_reader
--   machine_token: DELETE, INSERT, SELECT, UPDATE to penstock_control_api
--   member: DELETE, INSERT, SELECT, UPDATE to penstock_control_api
--   meter: INSERT, SELECT, UPDATE to penstock_collector
--   meter: SELECT to penstock_reader
--   node: SELECT to penstock_collector
--   node: INSERT, SELECT, UPDATE to penstock_control_api
--   node: SELECT to penstock_reader
--   node: SELECT to penstock_scheduler
--   node_address: SELECT to penstock_control_api
--   node_address: INSERT, SELECT, UPDATE to penstock_scheduler
--   node_change: DELETE, INSERT, SELECT, UPDATE to penstock_scheduler
--   node_group: DELETE, INSERT, SELECT, UPDATE to penstock_control_api
--   node_group: SELECT to penstock_scheduler
--   node_group_node: DELETE, INSERT, SELECT to penstock_control_api
--   node_group_node: SELECT to penstock_scheduler
--   node_lease: INSERT, SELECT, UPDATE to penstock_scheduler
--   node_multiplier: SELECT to penstock_collector
--   node_multiplier: INSERT, SELECT to penstock_control_api
--   node_multiplier: SELECT to penstock_reader
--   node_status: SELECT to penstock_control_api
--   node_status: SELECT to penstock_reader
--   node_status: INSERT, SELECT, UPDATE to penstock_scheduler
--   oidc_exchange: DELETE, INSERT, SELECT to penstock_control_api
--   one_time_link: INSERT, SELECT, UPDATE to penstock_control_api
--   one_time_link: DELETE to penstock_scheduler
--   passkey: DELETE, INSERT, SELECT, UPDATE to penstock_control_api
--   passkey_challenge: INSERT, SELECT to penstock_control_api
--   passkey_challenge: DELETE to penstock_scheduler
--   plan: INSERT, SELECT, UPDATE to penstock_control_api
--   plan: SELECT to penstock_reader
--   plan: SELECT to penstock_scheduler
--   plan_node_group: DELETE, INSERT, SELECT to penstock_control_api
--   plan_node_group: SELECT to penstock_scheduler
--   platform: INSERT, SELECT to penstock_control_api
--   platform: SELECT to penstock_scheduler
--   quarantine_release: DELETE, SELECT to penstock_collector
--   quarantine_release: INSERT, SELECT to penstock_control_api
--   reattest_request: SELECT to penstock_control_api
--   reattest_request: DELETE, INSERT, SELECT, UPDATE to penstock_scheduler
--   recovery_code: DELETE, INSERT, SELECT, UPDATE to penstock_control_api
--   revision: SELECT to penstock_control_api
--   revision: SELECT to penstock_reader
--   revision: INSERT, SELECT, UPDATE to penstock_scheduler
--   session: INSERT, SELECT, UPDATE to penstock_control_api
--   session: DELETE to penstock_scheduler
--   session_tenant: INSERT, SELECT to penstock_control_api
--   session_tenant: DELETE, SELECT to penstock_scheduler
--   setting: INSERT, SELECT, UPDATE to penstock_control_api
--   setting: SELECT to penstock_scheduler
--   setup_link: INSERT, SELECT, UPDATE to penstock_control_api
--   signing_key: INSERT, SELECT, UPDATE to penstock_control_api
--   slice_head: INSERT, SELECT, UPDATE to penstock_collector
--   slice_head: SELECT to penstock_reader
--   statement: SELECT to penstock_control_api
--   statement: SELECT to penstock_reader
--   statement: INSERT, SELECT to penstock_scheduler
--   statement_key: INSERT to penstock_control_api
--   statement_key: INSERT, SELECT to penstock_scheduler
--   statement_line: SELECT to penstock_control_api
--   statement_line: SELECT to penstock_reader
--   statement_line: INSERT, SELECT to penstock_scheduler
--   stream_head: INSERT, SELECT, UPDATE to penstock_collector
--   stream_head: SELECT to penstock_reader
--   stream_head: SELECT to penstock_scheduler
--   stream_release: DELETE, SELECT to penstock_collector
--   stream_release: INSERT, SELECT to penstock_control_api
--   stream_watermark: INSERT, SELECT, UPDATE to penstock_collector
--   stream_watermark: SELECT to penstock_reader
--   subscription: INSERT, SELECT, UPDATE to penstock_control_api
--   subscription: SELECT to penstock_scheduler
--   subscription_act: INSERT, SELECT to penstock_control_api
--   subscription_act: INSERT, SELECT, UPDATE to penstock_scheduler
--   subscription_state: SELECT to penstock_control_api
--   subscription_state: SELECT to penstock_reader
--   subscription_state: INSERT, SELECT, UPDATE to penstock_scheduler
--   tenant: INSERT, SELECT, UPDATE to penstock_control_api
--   tenant: SELECT to penstock_reader
--   tenant: SELECT to penstock_scheduler
--   tenant_month: INSERT, SELECT, UPDATE to penstock_collector
--   tenant_month: SELECT to penstock_control_api
--   tenant_month: SELECT to penstock_scheduler
--   tenant_pool: SELECT to penstock_control_api
--   tenant_pool: INSERT, SELECT, UPDATE to penstock_scheduler
--   totp: DELETE, INSERT, SELECT, UPDATE to penstock_control_api
--   usage_counter: INSERT, SELECT, UPDATE to penstock_collector
--   usage_counter: SELECT to penstock_control_api
--   usage_counter: SELECT to penstock_reader
--   usage_counter: SELECT to penstock_scheduler
--   usage_day: SELECT to penstock_control_api
--   usage_day: SELECT to penstock_reader
--   usage_day: INSERT, SELECT, UPDATE to penstock_scheduler
--   usage_hour: INSERT, SELECT, UPDATE to penstock_collector
--   usage_hour: SELECT to penstock_control_api
--   usage_hour: SELECT to penstock_reader
--   usage_hour: SELECT to penstock_scheduler
--   usage_node_hour: INSERT, SELECT, UPDATE to penstock_collector
--   usage_node_hour: SELECT to penstock_control_api
--   usage_node_hour: SELECT to penstock_reader
--   usage_node_hour: SELECT to penstock_scheduler
--   usage_period: SELECT to penstock_collector
--   usage_period: SELECT to penstock_control_api
--   usage_period: SELECT to penstock_reader
--   usage_period: INSERT, SELECT, UPDATE to penstock_scheduler
--   usage_quarantine: INSERT, SELECT to penstock_collector
--   usage_quarantine: SELECT to penstock_control_api
--   usage_quarantine: SELECT to penstock_reader
--   usage_rolled: SELECT to penstock_reader
--   usage_rolled: INSERT, SELECT, UPDATE to penstock_scheduler
--   webhook: DELETE, INSERT, SELECT, UPDATE to penstock_control_api
--   webhook: SELECT to penstock_scheduler
--   webhook_delivery: INSERT, SELECT, UPDATE to penstock_control_api
--   webhook_delivery: DELETE, INSERT, SELECT, UPDATE to penstock_scheduler
--   webhook_health: DELETE, SELECT to penstock_control_api
--   webhook_health: INSERT, SELECT, UPDATE to penstock_scheduler
--   webhook_position: SELECT, UPDATE to penstock_scheduler

-- Grants on columns
--   audit_log (tenant_id, seq, hash): SELECT to penstock_scheduler
--   certificate (serial, node_id, public_key_hash, der, not_before, not_after, revoked_at): SELECT to penstock_collector
--   certificate (serial, node_id, join_token_id, not_before, not_after, issued_at, revoked_at): SELECT to penstock_control_api
--   certificate (serial, node_id, der, not_before, not_after, revoked_at): SELECT to penstock_reader
--   idempotency_key (tenant_id, actor_id, key_hash, created_at): SELECT to penstock_scheduler
--   node (state, version): UPDATE to penstock_scheduler
--   one_time_link (hash, expires_at): SELECT to penstock_scheduler
--   passkey_challenge (hash, expires_at): SELECT to penstock_scheduler
--   quarantine_release (retry_at): UPDATE to penstock_collector
--   reattest_request (approved_at, approved_by): UPDATE to penstock_control_api
--   session (session_id, family_id, expires_at, revoked_at): SELECT to penstock_scheduler
--   statement_key (key_id, public_key, created_at, retired_at): SELECT to penstock_control_api
--   statement_key (retired_at): UPDATE to penstock_control_api
--   statement_key (key_id, public_key, created_at, retired_at): SELECT to penstock_reader
--   statement_key (retired_at): UPDATE to penstock_scheduler
--   stream_head (node_id, epoch, seq, frozen_at, frozen_reason, accepted_at): SELECT to penstock_control_api
--   subscription (tenant_id, subscription_id, admin_state): SELECT to penstock_collector
--   subscription (tenant_id, subscription_id, plan_id, name, external_ref, admin_state, limit_bytes, period, engines, expires_at, created_at, deleted_at): SELECT to penstock_reader
--   subscription (plan_id, limit_bytes, period, engines, device_limit, expires_at, version, on_hold, hold_deadline, duration_days, activated_at, next_plan_id, next_plan_at): UPDATE to penstock_scheduler
--   tenant (tenant_id, time_zone): SELECT to penstock_collector
--   usage_quarantine (released_at): UPDATE to penstock_collector
--   webhook (enabled, disabled_reason): UPDATE to penstock_scheduler
