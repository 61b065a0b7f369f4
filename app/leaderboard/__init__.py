"""Leaderboards as a service: scores ranked in Redis, kept in a Postgres ledger, served over REST.

What lives where, and who may import whom, is held by the import-linter contract in ``pyproject.toml``:
``domain <- store <- control <- {api, worker} <- local <- cli``.
"""

__version__ = "0.1.0"
