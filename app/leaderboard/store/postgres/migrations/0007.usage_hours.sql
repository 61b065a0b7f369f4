-- Usage by the hour, for the last weeks (the worker prunes it), and problems beside requests in both tables.
CREATE TABLE usage_hours (
    hour timestamptz NOT NULL,
    project_id bigint NOT NULL,
    requests bigint NOT NULL DEFAULT 0,
    score_updates bigint NOT NULL DEFAULT 0,
    rate_limited bigint NOT NULL DEFAULT 0,
    client_errors bigint NOT NULL DEFAULT 0,
    server_errors bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (project_id, hour)
);
CREATE INDEX usage_hours_hour ON usage_hours (hour);
ALTER TABLE usage_rollups
    ADD COLUMN client_errors bigint NOT NULL DEFAULT 0,
    ADD COLUMN server_errors bigint NOT NULL DEFAULT 0;
