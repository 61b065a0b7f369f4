"""PostgreSQL: what has to survive Redis. Migrations, repositories and the ledger of score events.

Belongs here: SQL, and the frozen rows it returns. Forbidden here: asking Redis, and decisions (those are control's).
Every function takes a pool, or a connection that is already in a transaction, and raises DatabaseUnavailable when
the server cannot be asked.
"""
