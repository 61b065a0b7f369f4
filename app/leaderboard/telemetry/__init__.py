"""Telemetry: JSON logs with trace ids, and what requests, Redis and Postgres are seen with where it is on.

Off, nothing is installed: no middleware, no wrapped call, no thread. Knows nothing of requests, boards or tenants but
what it is told.
"""
