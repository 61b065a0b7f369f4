-- Keys that a project's own people make through the API, beside the one that its document keeps.
ALTER TABLE api_keys
    ADD COLUMN made_by_api boolean NOT NULL DEFAULT false,
    ADD COLUMN name text;
