-- The web pages that may use a project's read keys from a browser.
ALTER TABLE projects ADD COLUMN allowed_origins text[] COLLATE "C" NOT NULL DEFAULT '{}';
