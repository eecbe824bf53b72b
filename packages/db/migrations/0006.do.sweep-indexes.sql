-- What the scheduler's sweeps look for, so that their cost follows what is due and not how many subscriptions exist.
CREATE INDEX subscription_expiry ON subscription (expires_at) WHERE expires_at IS NOT NULL AND admin_state = 'active';
CREATE INDEX subscription_state_limited ON subscription_state (tenant_id, subscription_id)
  WHERE effective_state = 'limited';
CREATE INDEX usage_period_end ON usage_period (ends_at) WHERE ends_at IS NOT NULL;
