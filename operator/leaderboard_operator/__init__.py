"""The operator: Tenant and Leaderboard resources into rows, Redis namespaces and Secrets.

Belongs here: what watches the Kubernetes API, decides what its objects should say, and says it. What a tenant or a
board *is*, and every change of Postgres and Redis, belongs to `leaderboard.control`. Never imported from here: the API,
the worker, the command line.
"""
