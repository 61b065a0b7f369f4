"""The platform on one machine: embedded Postgres and Redis, migrations, API and worker under one supervisor."""
