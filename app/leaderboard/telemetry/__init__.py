"""Telemetry: JSON logs with trace ids, and the seam through which OpenTelemetry sees requests, Redis and Postgres.

Off is the Null implementation: no middleware is installed and no call is wrapped, so it costs nothing.
"""
