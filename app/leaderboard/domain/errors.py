"""The domain's refusals, one tree::

    DomainError
    ├── InvalidName          a board key, user, project or slug that breaks its pattern
    ├── InvalidScore         NaN, an infinity, or a number out of range
    ├── InvalidDocument      a Tenant or Leaderboard document that does not fit its schema
    ├── InvalidApiKey        not a key of ours: wrong shape or wrong checksum
    ├── ImmutableField       a change of something that is fixed at creation
    └── QuotaExceeded        the plan does not allow one more

Every message says what to do about it; the API and the operator show it as it is.
"""


class DomainError(ValueError):
    """A request that the rules of leaderboards refuse; the message is for its sender."""


class InvalidName(DomainError):
    """A name outside its pattern."""


class InvalidScore(DomainError):
    """A number that is not a score."""


class InvalidDocument(DomainError):
    """A resource document that does not fit its schema."""


class InvalidApiKey(DomainError):
    """Text that cannot be an API key of this platform; no store was asked."""


class ImmutableField(DomainError):
    """A change to a field that is fixed when the resource is made."""

    def __init__(self, field: str, *, current: object, wanted: object) -> None:
        super().__init__(
            f"{field} cannot change once set (it is {current!r}, asked for {wanted!r}); "
            f"delete the resource and make it again, or use a new key"
        )
        self.field = field


class QuotaExceeded(DomainError):
    """The tenant's plan is used up."""

    def __init__(self, quota: str, *, limit: int) -> None:
        super().__init__(f"the plan allows {quota} = {limit}, all in use; delete one or move to a larger plan")
        self.quota = quota
        self.limit = limit
