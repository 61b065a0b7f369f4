"""Where state is kept: Redis (the truth for score and rank) and Postgres (tenants, keys, the ledger, rollups).

Belongs here: how a value is laid out in a store and moved in and out of it. Forbidden: deciding what a tenant or
board should be (control), and anything of HTTP.
"""
