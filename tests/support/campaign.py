"""Random changes of Tenants and Leaderboards, and what should have come of them."""

import json
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from support.operator import Kube, leaderboard, tenant

ADOPT = "leaderboard.saas/adopt"
Manifest = dict[str, Any]
Command = Callable[[], object]


class Name(NamedTuple):
    """Names one object, as kubectl does."""

    kind: str
    namespace: str
    name: str


class Place(NamedTuple):
    """Where a board is on the platform."""

    slug: str
    project: str
    key: str


class Campaign:
    """What was asked for so far. `seed` and the calls decide all of it, so that a failure can be had again.

    `wanted` are the manifests that should be there. `kept` has, by place, the Leaderboards that were deleted with
    Retain and not asked for again since; `left` likewise the Tenants, by slug. A round's deletions are in either only
    as far as their object was known to be ready, `settled`, before: what never came to be leaves nothing. `asked` is
    what the last commands were about.
    """

    def __init__(self, kubes: Sequence[Kube], *, seed: int) -> None:
        self.random = Random(seed)
        self.wanted: dict[Name, Manifest] = {}
        self.kept: dict[Place, Manifest] = {}
        self.left: dict[str, Manifest] = {}
        self.settled: set[Name] = set()
        self.asked: set[Name] = set()
        self._kubes = {kube.namespace: kube for kube in kubes}
        self._numbers = 0
        self._applied: set[Name] = set()
        self._dropped: dict[Name, Manifest] = {}
        self._going: set[Name] = set()

    def round(self, changes: int) -> list[Command]:
        """Make up a round of random changes; return the commands that ask for them, to be called in this order."""
        for _ in range(changes):
            kinds, weights = zip(*self._choices(), strict=True)
            self.random.choices(kinds, weights)[0]()
        return self.commands()

    def commands(self) -> list[Command]:
        """Return what asks for the changes that were made up since the last call."""
        commands = [*self._applications(), *self._deletions()]
        self.asked = self._applied | self._dropped.keys()
        self._applied, self._dropped = set(), {}
        return commands

    def settle(self) -> None:
        """Say that everything wanted is there now, and nothing else."""
        self.settled = set(self.wanted)
        self._going = set()

    def tenants(self) -> list[Name]:
        """Return the Tenants that are wanted."""
        return [name for name in self.wanted if name.kind == "Tenant"]

    def boards(self, of: Name | None = None) -> list[Name]:
        """Return the Leaderboards that are wanted, or those of one Tenant."""
        names = [name for name in self.wanted if name.kind == "Leaderboard"]
        return [name for name in names if of is None or self.tenant_of(self.wanted[name]) == of]

    def place(self, board: Manifest) -> Place:
        """Return where a board is whose Tenant is wanted."""
        spec = board["spec"]
        return Place(self.wanted[self.tenant_of(board)]["spec"]["slug"], spec["project"], spec["key"])

    @staticmethod
    def tenant_of(board: Manifest) -> Name:
        """Return the Tenant that a Leaderboard names."""
        ref = board["spec"]["tenantRef"]
        return Name("Tenant", ref["namespace"], ref["name"])

    # -- what may happen

    def new_tenant(self, *, policy: str | None = None) -> None:
        """Ask for one more Tenant."""
        name = f"t{self._number()}"
        projects = self.random.choice([["default"], ["default", "race_app"]])
        made = tenant(
            name,
            plan="enterprise",
            projects=[{"name": project} for project in projects],
            deletionPolicy=policy or self.random.choice(["Retain", "Delete"]),
            allowedNamespaces={"from": "All"},
        )
        self._want(self.random.choice(list(self._kubes)), made)

    def new_board(self, *, policy: str | None = None) -> None:
        """Ask for one more Leaderboard, in its Tenant's namespace or in another."""
        name = f"b{self._number()}"
        of = self.random.choice(self.tenants())
        made = leaderboard(
            name,
            of={"name": of.name, "namespace": of.namespace},
            project=self.random.choice(self.wanted[of]["spec"]["projects"])["name"],
            deletionPolicy=policy or self.random.choice(["Retain", "Delete"]),
        )
        # One in another namespace than its Tenant is of equal right here.
        self._want(self.random.choice([of.namespace, *self._kubes]), made)

    def change_tenant(self) -> None:
        """Change a Tenant: its plan, its name, and a project more where it has one only."""
        spec = self._touch(self.tenants())["spec"]
        if len(spec["projects"]) < 2:
            spec["projects"] = [*spec["projects"], {"name": "race_app"}]
        spec["plan"] = self.random.choice(["pro", "enterprise"])
        spec["displayName"] = f"Tenant {self._number()}"

    def rotate(self) -> None:
        """Ask for new keys of a Tenant."""
        self._touch(self.tenants())["spec"]["apiKey"] = {"rotationTrigger": f"r{self._number()}"}

    def change_board(self) -> None:
        """Change a Leaderboard."""
        spec = self._touch(self.boards())["spec"]
        spec["maxEntries"] = self._number()
        spec["publicRead"] = not spec.get("publicRead", False)

    def delete_board(self) -> None:
        """Delete a Leaderboard."""
        self._drop_board(self.random.choice(self.boards()))

    def _drop_board(self, name: Name) -> None:
        manifest = self.wanted[name]
        place = self.place(manifest)
        self._drop(name)
        if manifest["spec"]["deletionPolicy"] == "Retain" and name in self.settled:
            self.kept[place] = manifest | {"metadata": {"name": name.name, "namespace": name.namespace}}

    def delete_tenant(self, name: Name | None = None) -> None:
        """Delete a Tenant and its Leaderboards."""
        name = name or self.random.choice(self.tenants())
        for board in self.boards(name):
            self._drop_board(board)
        manifest = self.wanted[name]
        self._drop(name)
        slug = manifest["spec"]["slug"]
        if manifest["spec"]["deletionPolicy"] == "Delete":
            self.kept = {place: board for place, board in self.kept.items() if place.slug != slug}
        elif name in self.settled:
            self.left[slug] = manifest

    def adopt_board(self) -> None:
        """Ask again for a Leaderboard that was kept."""
        place = self.random.choice(self._adoptable_boards())
        manifest = self.kept.pop(place)
        self._want(manifest["metadata"]["namespace"], _adopting(manifest))

    def _adoptable_boards(self) -> list[Place]:
        slugs = {self.wanted[name]["spec"]["slug"] for name in self.tenants()}
        return [place for place, board in self.kept.items() if place.slug in slugs and _name(board) not in self._going]

    def adopt_tenant(self) -> None:
        """Ask again for a Tenant that was left."""
        manifest = self.left.pop(self.random.choice(self._adoptable_tenants()))
        self._want(manifest["metadata"]["namespace"], _adopting(manifest))

    def _adoptable_tenants(self) -> list[str]:
        return [slug for slug, manifest in self.left.items() if _name(manifest) not in self._going]

    def adopt_all(self) -> None:
        """Ask again for all that was left or kept."""
        while self._adoptable_tenants():
            self.adopt_tenant()
        while self._adoptable_boards():
            self.adopt_board()

    # -- choosing and saying it

    def _choices(self) -> list[tuple[Callable[[], None], int]]:
        choices: list[tuple[Callable[[], None], int]] = [(self.new_tenant, 2 if len(self.tenants()) < 6 else 0)]
        if self.tenants():
            choices += [(self.new_board, 6 if len(self.boards()) < 40 else 0)]
            choices += [(self.change_tenant, 2), (self.rotate, 3), (self.delete_tenant, 1)]
        if self.boards():
            choices += [(self.change_board, 3), (self.delete_board, 2)]
        if self._adoptable_boards():
            choices += [(self.adopt_board, 2)]
        if self._adoptable_tenants():
            choices += [(self.adopt_tenant, 1)]
        return choices

    def _number(self) -> int:
        self._numbers += 1
        return self._numbers

    def _want(self, namespace: str, manifest: Manifest) -> None:
        manifest["metadata"]["namespace"] = namespace
        self.wanted[_name(manifest)] = manifest
        self._applied.add(_name(manifest))

    def _touch(self, names: list[Name]) -> Manifest:
        name = self.random.choice(names)
        self._applied.add(name)
        # Others may hold the one before.
        self.wanted[name] = json.loads(json.dumps(self.wanted[name]))
        return self.wanted[name]

    def _drop(self, name: Name) -> None:
        self._dropped[name] = self.wanted.pop(name)
        self._going.add(name)

    def _applications(self) -> list[Command]:
        # What was changed and dropped in one round is applied, and deleted at once.
        applied = [self.wanted.get(name) or self._dropped[name] for name in sorted(self._applied)]
        self.random.shuffle(applied)  # boards before their Tenants too
        half = self.random.randint(0, len(applied))
        return [self._apply(part) for part in (applied[:half], applied[half:]) if part]

    def _apply(self, manifests: Sequence[Mapping[str, Any]]) -> Command:
        kube = next(iter(self._kubes.values()))
        # Without the namespace of the command line: each has its own.
        items = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests)})
        return lambda: kube.cluster.kubectl("apply", "-f", "-", input=items)

    def _deletions(self) -> list[Command]:
        found = []
        for namespace, kube in self._kubes.items():
            names = [f"{name.kind.lower()}/{name.name}" for name in self._dropped if name.namespace == namespace]
            if names:
                self.random.shuffle(names)  # Tenants before their boards too
                found.append(_delete(kube, names))
        return found


def _name(manifest: Mapping[str, Any]) -> Name:
    return Name(manifest["kind"], manifest["metadata"]["namespace"], manifest["metadata"]["name"])


def _adopting(manifest: Manifest) -> Manifest:
    metadata = manifest["metadata"] | {"annotations": {ADOPT: "true"}}
    return manifest | {"metadata": metadata}


def _delete(kube: Kube, names: list[str]) -> Command:
    return lambda: kube("delete", "--wait=false", "--ignore-not-found", *names)
