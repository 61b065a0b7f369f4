"""What httpx raises, as the SDK says it."""

import httpx

from leaderboard_sdk.errors import TransportError


def lost(error: httpx.TransportError) -> TransportError:
    """Return the TransportError for it; one that never had a connection was not sent."""
    sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
    failure = TransportError(f"{type(error).__name__}: {error}", sent=sent)
    failure.__cause__ = error
    return failure
