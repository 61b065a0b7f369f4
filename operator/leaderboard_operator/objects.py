"""The objects as last seen, and who refers to whom. No I/O."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from leaderboard_operator.resources import Key, Kind, Resource, resource, tenant_key, text_of

BoardPlace = tuple[Key, str, str]
"""The Tenant that a Leaderboard names, its project and its key: what two of them may not share."""


class Objects:
    """What the watch and the lists told. Iterating over it is safe only between awaits."""

    def __init__(self) -> None:
        self._all: dict[Key, Resource] = {}
        self._by_slug: defaultdict[str, set[Key]] = defaultdict(set)
        self._by_tenant: defaultdict[Key, set[Key]] = defaultdict(set)
        self._by_place: defaultdict[BoardPlace, set[Key]] = defaultdict(set)
        self._watched: dict[Key, int] = {}
        self._went: set[str] = set()

    def get(self, key: Key) -> Resource | None:
        """Return the object, None where there is none."""
        return self._all.get(key)

    def of_kind(self, kind: Kind) -> list[Resource]:
        """Return every object of that kind."""
        return [found for key, found in self._all.items() if key.kind is kind]

    def see(self, kind: Kind, raw: Mapping[str, Any], *, by_watch: bool = False) -> tuple[Resource, bool]:
        """Keep what the watch or a list said of an object; return it as it is now, and whether it asks for work.

        What was read before what is known already is passed over, and so is an object that went since the list began.
        `by_watch`: see `unwatched`.
        """
        new = resource(kind, raw)
        if by_watch:
            self._watched[new.key] = max(self._watched.get(new.key, 0), new.version)
        old = self._all.get(new.key)
        if new.uid in self._went or (old is not None and not new.newer_than(old)):
            return old or new, False
        if old is not None:
            self._index(old, present=False)
        self._all[new.key] = new
        self._index(new, present=True)
        return new, old is None or old.trigger != new.trigger

    def answered(self, item: Resource, raw: Mapping[str, Any]) -> Resource:
        """Keep what the API answered to our own write of `item`; return the object as it is now.

        The answer may be read after the watch has told that the object is gone: it never brings one back.
        """
        known = self._all.get(item.key)
        if known is None or known.uid != item.uid:
            return resource(item.key.kind, raw)
        return self.see(item.key.kind, raw)[0]

    def begin_list(self) -> None:
        """Say that a list begins: what went before it cannot be in it."""
        self._went.clear()

    def gone(self, key: Key, *, uid: str) -> bool:
        """Forget an object that was deleted; False where another has taken its name already."""
        self._went.add(uid)
        known = self._all.get(key)
        if known is None or known.uid != uid:
            return False
        del self._all[key]
        self._watched.pop(key, None)
        self._index(known, present=False)
        return True

    def unwatched(self, kind: Kind) -> set[tuple[Key, int]]:
        """Return the objects, with their versions, that are known as newer than the watch has told."""
        return {
            (key, found.version)
            for key, found in self._all.items()
            if key.kind is kind and found.version > self._watched.get(key, 0)
        }

    def boards_of(self, tenant: Key) -> list[Resource]:
        """Return the Leaderboards whose tenantRef names the Tenant, permitted or not."""
        return self._pick(self._by_tenant.get(tenant, ()))

    def rivals(self, of: Resource) -> list[Resource]:
        """Return the other objects that want the same slug, or the same board of the same Tenant; oldest first."""
        if of.key.kind is Kind.TENANT:
            keys = self._by_slug.get(text_of(of.spec, "slug"), set())
        else:
            keys = self._by_place.get(_place(of), set())
        return sorted(self._pick(keys - {of.key}), key=lambda found: found.age)

    def _pick(self, keys: Iterable[Key]) -> list[Resource]:
        return [self._all[key] for key in keys]

    def _index(self, item: Resource, *, present: bool) -> None:
        if item.key.kind is Kind.TENANT:
            _mark(self._by_slug, text_of(item.spec, "slug"), item.key, present=present)
        else:
            _mark(self._by_tenant, tenant_key(item), item.key, present=present)
            _mark(self._by_place, _place(item), item.key, present=present)


def _place(board: Resource) -> BoardPlace:
    return tenant_key(board), text_of(board.spec, "project", "default"), text_of(board.spec, "key")


def _mark(index: Any, name: Any, key: Key, *, present: bool) -> None:
    if present:
        index[name].add(key)
        return
    index[name].discard(key)
    if not index[name]:
        del index[name]
