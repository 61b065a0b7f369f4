-- Who may write on behalf of the custom resources, what may be adopted by whom, and keys that end others at once.

-- One row: the number of the leader in office. A session that says which leader it works for (its setting
-- leaderboard.epoch) may write only while that is this one. Sessions without the setting are everybody else.
CREATE TABLE leadership (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    epoch bigint NOT NULL CHECK (epoch >= 0),
    holder text COLLATE "C",
    taken_at timestamptz
);
INSERT INTO leadership (epoch) VALUES (0);

-- The table's lock, rather than the row's FOR SHARE: it lasts to the end of the transaction too, so that a take-over
-- waits for transactions in flight, but it writes nothing, and who waits for it is served in turn, so that a busy old
-- leader cannot keep the new one waiting. The SELECT is a statement of its own: it sees what was committed meanwhile.
CREATE FUNCTION refuse_deposed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    mine CONSTANT text := current_setting('leaderboard.epoch', true);
    current bigint;
BEGIN
    IF coalesce(mine, '') <> '' THEN
        LOCK TABLE leadership IN ROW SHARE MODE;
        SELECT epoch INTO STRICT current FROM leadership;
        IF mine::bigint <> current THEN
            RAISE EXCEPTION 'leader % was deposed: % is in office', mine, current USING ERRCODE = 'LB001';
        END IF;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER only_the_leader BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON tenants
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_deposed();
CREATE TRIGGER only_the_leader BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON projects
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_deposed();
CREATE TRIGGER only_the_leader BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_deposed();
CREATE TRIGGER only_the_leader BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON leaderboards
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_deposed();

-- The namespace whose resources may take over what nobody owns: set where a resource was deleted with Retain, or by
-- `leaderboard offer`.
ALTER TABLE tenants ADD COLUMN adoptable_from text COLLATE "C";
ALTER TABLE leaderboards ADD COLUMN adoptable_from text COLLATE "C";
CREATE INDEX tenants_retained ON tenants (slug, deleted_at DESC)
    WHERE deleted_at IS NOT NULL AND adoptable_from IS NOT NULL;

-- What a resource that is being deleted leaves behind.
CREATE INDEX leaderboards_managed_by ON leaderboards (managed_by) WHERE state <> 'deleted';

-- A key made because the one before was lost: that one ends the moment this one works, without grace. Kept here, so
-- that a crash between handing the key over and activating it does not forget it.
ALTER TABLE api_keys ADD COLUMN at_once boolean NOT NULL DEFAULT false;
