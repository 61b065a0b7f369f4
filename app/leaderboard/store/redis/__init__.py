"""Redis: the multiplexed connection and the scripts of the hot path; redis-py for everything that is not hot."""
