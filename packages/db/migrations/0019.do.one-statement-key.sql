-- At any moment one key signs statements, and a key that was retired never signs again.
-- The owner sees rows only while row security is not forced on it.
ALTER TABLE statement_key NO FORCE ROW LEVEL SECURITY;
UPDATE statement_key SET retired_at = now()
WHERE retired_at IS NULL AND key_id <> (SELECT key_id FROM statement_key WHERE retired_at IS NULL
                                        ORDER BY created_at DESC, key_id DESC LIMIT 1);
ALTER TABLE statement_key FORCE ROW LEVEL SECURITY;
CREATE UNIQUE INDEX statement_key_active ON statement_key ((true)) WHERE retired_at IS NULL;

CREATE FUNCTION refuse_key_change() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN
    IF OLD.retired_at IS NOT NULL
       OR (NEW.key_id, NEW.public_key, NEW.private_key, NEW.created_at)
          IS DISTINCT FROM (OLD.key_id, OLD.public_key, OLD.private_key, OLD.created_at) THEN
      RAISE EXCEPTION 'a statement key is retired once and never changed' USING ERRCODE = '42501';
    END IF;
    RETURN NEW;
  END $$;
CREATE TRIGGER retired_once BEFORE UPDATE ON statement_key FOR EACH ROW EXECUTE FUNCTION refuse_key_change();
