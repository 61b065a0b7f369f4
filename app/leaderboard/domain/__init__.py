"""The rules of leaderboards, as plain functions and frozen values.

Belongs here: what a tenant, project, board, score, plan or API key *is*, and what may become of it.
Forbidden here: any I/O, any clock, any source of randomness. Those are passed in.
"""
