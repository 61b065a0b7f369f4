"""Postgres: plain SQL in ``migrations/``, psycopg 3 with a pool, no ORM. One module per aggregate."""
