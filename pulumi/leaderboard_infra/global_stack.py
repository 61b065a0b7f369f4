"""What the stack with role `global` hands over to the regions, by name and type.

`HANDED_OVER` is the one list: that stack exports exactly it, and a region refuses anything else.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import pulumi

HANDED_OVER: Mapping[str, type] = {
    "hosts": dict,
    "pepper": str,
    "primaryRegion": str,
    "primaryDatabaseUrl": str,
}
_Value = TypeVar("_Value")


class HandOverError(Exception):
    """The global stack does not give what this region needs; the message says what to run."""


class GlobalStack:
    """The global stack, as one region sees it."""

    def __init__(self, name: str, *, stack: str, region: str, opts: pulumi.ResourceOptions) -> None:
        self._stack = stack
        self._reference = pulumi.StackReference(name, stack_name=stack, opts=opts)
        self._region = region

    @property
    def host(self) -> pulumi.Output[str]:
        """The region's host name; '' where the global stack has no domain."""

        def own(hosts: dict[str, Any]) -> str:
            if hosts and self._region not in hosts:
                raise HandOverError(
                    f"the stack {self._stack} has no address of {self._region}: add it to its `addresses` and run "
                    "pulumi up there"
                )
            return str(hosts.get(self._region, ""))

        return self._output("hosts", dict).apply(own)

    @property
    def pepper(self) -> pulumi.Output[str]:
        """The secret of key hashing, the same in all regions: so a key still works where its tenant moves to."""
        return pulumi.Output.secret(self._output("pepper", str))

    @property
    def primary_database_url(self) -> pulumi.Output[str]:
        """The primary Postgres of the regions that share one, a secret."""

        def known(url: str) -> str:
            if not url:
                raise HandOverError(
                    f"the stack {self._stack} knows no primary database: set its `primaryRegion` and "
                    "`primaryDatabaseUrl` and run pulumi up there"
                )
            return url

        return pulumi.Output.secret(self._output("primaryDatabaseUrl", str).apply(known))

    def expect_primary(self, region: str) -> pulumi.Output[str]:
        """Give the primary region's name; raises HandOverError where the global stack names another."""

        def same(primary: str) -> str:
            if primary != region:
                raise HandOverError(
                    f"postgresPrimaryRegion is {region}, but the stack {self._stack} says {primary or 'none'}: "
                    "both must name the same region"
                )
            return primary

        return self._output("primaryRegion", str).apply(same)

    def _output(self, key: str, kind: type[_Value]) -> pulumi.Output[_Value]:
        assert HANDED_OVER[key] is kind

        def typed(value: object) -> _Value:
            if not isinstance(value, kind):
                raise HandOverError(
                    f"the stack {self._stack} does not export {key} as {kind.__name__}, but "
                    f"{type(value).__name__}: run pulumi up there first, with the same version of this program"
                )
            return value

        return self._reference.get_output(key).apply(typed)
