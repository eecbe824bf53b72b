-- A password reset ends what acts for the account wherever it was made: a place in the platform tenant reaches tenants
-- that the account is no member of. Only a transaction that names the account here sees where its keys are; what it
-- may change is still the tenant of the transaction alone.
CREATE INDEX api_key_account ON api_key (account_id);
CREATE INDEX machine_token_account ON machine_token (account_id);

CREATE POLICY of_account_reset ON api_key FOR SELECT TO penstock_control_api
  USING (account_id = (SELECT nullif(current_setting('app.keys_of', true), '')::uuid));
CREATE POLICY of_account_reset ON machine_token FOR SELECT TO penstock_control_api
  USING (account_id = (SELECT nullif(current_setting('app.keys_of', true), '')::uuid));
