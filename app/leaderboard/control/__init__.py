"""Control: the one way tenants, projects, keys and boards are made or changed.

Observe, plan, apply: a pure function turns desired and observed state into a plan, a thin executor carries it out.
The REST API, ``leaderboard apply`` and the operator all come through here.
"""
