"""The worker: outbox -> ledger, usage rollups, partitions and their retention. Never imports the API."""
