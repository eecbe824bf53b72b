-- The platform replaces the key that signs statements; public halves of old ones stay, so that what they signed verifies.
-- control-api writes a private half and never reads one.
ALTER TABLE statement_key ENABLE ROW LEVEL SECURITY;
ALTER TABLE statement_key FORCE ROW LEVEL SECURITY;
CREATE POLICY published ON statement_key FOR SELECT TO penstock_control_api, penstock_reader USING (true);
CREATE POLICY platform_insert ON statement_key FOR INSERT TO penstock_control_api
  WITH CHECK ((SELECT app_is_platform()));
CREATE POLICY platform_update ON statement_key FOR UPDATE TO penstock_control_api
  USING ((SELECT app_is_platform())) WITH CHECK ((SELECT app_is_platform()));
CREATE POLICY sweep ON statement_key TO penstock_scheduler USING (true) WITH CHECK (true);
GRANT INSERT ON statement_key TO penstock_control_api;
GRANT UPDATE (retired_at) ON statement_key TO penstock_control_api;
