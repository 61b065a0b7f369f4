-- Tenants, boards, keys, the ledger of score events and the bill.
-- Names are COLLATE "C": they are compared as bytes, as Redis does, and no change of a locale library reorders an index.

CREATE TABLE plans (
    name text COLLATE "C" PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
    max_leaderboards integer NOT NULL CHECK (max_leaderboards >= 0),
    requests_per_second integer NOT NULL CHECK (requests_per_second BETWEEN 1 AND 1000000)
);

-- As in leaderboard.domain.plans.PLANS; a test compares the two.
INSERT INTO plans (name, max_leaderboards, requests_per_second) VALUES
    ('free', 10, 100),
    ('pro', 1000, 2000),
    ('enterprise', 100000, 50000);

CREATE TABLE tenants (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slug text COLLATE "C" NOT NULL CHECK (slug ~ '^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$'),
    display_name text,
    plan text COLLATE "C" NOT NULL REFERENCES plans (name),
    max_leaderboards integer CHECK (max_leaderboards >= 0),
    requests_per_second integer CHECK (requests_per_second BETWEEN 1 AND 1000000),
    suspended boolean NOT NULL DEFAULT false,
    prevent_deletion boolean NOT NULL DEFAULT false,
    deletion_policy text COLLATE "C" NOT NULL CHECK (deletion_policy IN ('Retain', 'Delete')),
    home_region text COLLATE "C",
    managed_by text COLLATE "C",
    spec_hash text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz
);
CREATE UNIQUE INDEX tenants_slug ON tenants (slug) WHERE deleted_at IS NULL;

CREATE TABLE projects (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id bigint NOT NULL REFERENCES tenants (id),
    name text COLLATE "C" NOT NULL CHECK (name ~ '^[a-z0-9_-]{1,63}$'),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);

CREATE TABLE api_keys (
    id text COLLATE "C" PRIMARY KEY CHECK (id ~ '^[0-9A-Za-z]{16}$'),
    project_id bigint NOT NULL REFERENCES projects (id),
    hmac bytea NOT NULL CHECK (octet_length(hmac) = 32),
    scope text COLLATE "C" NOT NULL CHECK (scope IN ('read', 'write', 'admin')),
    state text COLLATE "C" NOT NULL CHECK (state IN ('pending', 'active', 'revoked')),
    -- The tenant document's apiKey.rotationTrigger when this key was issued: another one now means it is due.
    rotation_trigger text,
    created_at timestamptz NOT NULL,
    activated_at timestamptz,
    expires_at timestamptz,
    revoked_at timestamptz
);
CREATE INDEX api_keys_project ON api_keys (project_id) WHERE state <> 'revoked';

-- A deleted board keeps its row, so that its events stay joinable. Made again under the same key it is a new row.
CREATE TABLE leaderboards (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project_id bigint NOT NULL REFERENCES projects (id),
    key text COLLATE "C" NOT NULL CHECK (key ~ '^[a-z0-9][a-z0-9_.-]{0,127}$'),
    incarnation integer NOT NULL DEFAULT 1 CHECK (incarnation >= 1),
    sort_order text COLLATE "C" NOT NULL CHECK (sort_order IN ('descending', 'ascending')),
    score_update text COLLATE "C" NOT NULL CHECK (score_update IN ('sum', 'best', 'latest')),
    tie_policy text COLLATE "C" NOT NULL CHECK (tie_policy IN ('first_to_reach', 'user_id', 'shared')),
    max_entries integer NOT NULL CHECK (max_entries >= 0),
    public_read boolean NOT NULL,
    suspended boolean NOT NULL,
    state text COLLATE "C" NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'deleting', 'deleted')),
    managed_by text COLLATE "C",
    deletion_policy text COLLATE "C" NOT NULL CHECK (deletion_policy IN ('Retain', 'Delete')),
    spec_hash text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deleted_at timestamptz
);
CREATE UNIQUE INDEX leaderboards_key ON leaderboards (project_id, key) WHERE state <> 'deleted';

-- One row per change of a board. No foreign key: an event of a board nobody knows must not stop the others.
-- Partitions (one per UTC day, made by the worker) are named score_events_YYYYMMDD.
CREATE TABLE score_events (
    event_time timestamptz NOT NULL,
    event_id uuid NOT NULL,
    leaderboard_id bigint NOT NULL,
    incarnation integer NOT NULL,
    seq bigint NOT NULL,
    kind "char" NOT NULL CHECK (kind IN ('u', 'r', 't', 'x', 'd')),
    member text COLLATE "C",
    submitted double precision,
    score double precision,
    order_prefix text COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (event_time, event_id)
) PARTITION BY RANGE (event_time);
CREATE INDEX score_events_position ON score_events (leaderboard_id, incarnation, seq);
-- Resets and deletions are few; finding a board's last one must not walk its whole history.
CREATE INDEX score_events_cut ON score_events (leaderboard_id, incarnation, seq) WHERE kind IN ('x', 'd');

-- What dropped partitions said: the latest state per member. A null score is a removed member, kept only while an
-- older event of its board is still in a partition.
CREATE TABLE score_checkpoints (
    leaderboard_id bigint NOT NULL,
    member text COLLATE "C" NOT NULL,
    incarnation integer NOT NULL,
    seq bigint NOT NULL,
    score double precision,
    order_prefix text COLLATE "C" NOT NULL,
    PRIMARY KEY (leaderboard_id, member)
);

-- Where the dropped partitions ended for a board, and its last reset among them.
CREATE TABLE score_checkpoint_heads (
    leaderboard_id bigint PRIMARY KEY,
    incarnation integer NOT NULL,
    seq bigint NOT NULL,
    cut_incarnation integer NOT NULL DEFAULT 0,
    cut_seq bigint NOT NULL DEFAULT 0
);

CREATE TABLE usage_rollups (
    day date NOT NULL,
    project_id bigint NOT NULL,
    requests bigint NOT NULL DEFAULT 0,
    score_updates bigint NOT NULL DEFAULT 0,
    rate_limited bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (day, project_id)
);
CREATE INDEX usage_rollups_project ON usage_rollups (project_id, day);

CREATE TABLE usage_flushes (
    boot_nonce text COLLATE "C" NOT NULL,
    sequence bigint NOT NULL,
    flushed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (boot_nonce, sequence)
);
CREATE INDEX usage_flushes_flushed_at ON usage_flushes (flushed_at);
