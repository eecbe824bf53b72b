-- One login role per service, none of which owns a table or bypasses row security. Run by bootstrap as a superuser
-- before the migrations (roles belong to the cluster, not to one database); safe to run again. Passwords are set
-- by the caller. The GRANTs live beside each table in migrations/.
--
-- Sweeps over all tenants (policies that say USING (true)), each with its reason:
--   penstock_scheduler   decides quota, expiry and desired state of every tenant's subscriptions
--   penstock_reader      dashboards and auditors of the operator: SELECT on figures, never on secrets
DO $$
DECLARE
  r text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'penstock_owner') THEN
    CREATE ROLE penstock_owner NOLOGIN NOSUPERUSER NOBYPASSRLS;
  END IF;
  FOREACH r IN ARRAY ARRAY['penstock_control_api', 'penstock_scheduler', 'penstock_collector',
                           'penstock_partitions', 'penstock_reader'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = r) THEN
      EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOINHERIT', r);
    END IF;
  END LOOP;
  -- The scheduler's second login makes and drops partitions: it may become the owner, and does nothing else.
  GRANT penstock_owner TO penstock_partitions;
END
$$;
