"""The platform's Grafana dashboards as code. No I/O here but for writing JSON files (`__main__`) and `preview`.

`queries.py` has every query; `panels.py` how a panel is made of queries; a module for each dashboard says which panels
it has and where; `lint.py` says what a dashboard must keep to. ``python -m leaderboard_dashboards`` writes the JSON.
"""
