"""``python -m leaderboard_infra.plan local``: the resources of a stack as a tree, without a CLI or a cluster.

The program runs under Pulumi's mocks: each resource is what it asks for, and what a provider would know only after
making it (a password, an address) is made up. Secrets that are not in the stack's file, or encrypted, are made up too.
"""

import argparse
import asyncio
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi.runtime import config as runtime_config
from pulumi.runtime import mocks, rpc, settings
from pulumi.runtime.stack import run_pulumi_func

from leaderboard_infra import config, program
from leaderboard_infra.config import ConfigError
from leaderboard_infra.settings import FIELDS, PROJECT, default_of, is_secret, key_of

ROOT = Path(__file__).parents[2]
STACKS = ROOT / "pulumi" / "stacks"
DISABLED = "pulumi:disable-default-providers"
_SECRET = "4dabf18193072939515e22adb298388d"  # noqa: S105 - what marks a secret on Pulumi's wire

Config = Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resource:
    """One resource, as the program asked for it. `urn` is the mocks' own, `parent` another's or the stack's."""

    urn: str
    kind: str
    name: str
    parent: str
    provider: str
    custom: bool
    protect: bool
    retain: bool
    inputs: Mapping[str, Any]
    secrets: frozenset[tuple[str | int, ...]]
    """Where in `inputs` there are secrets."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What one run of the program asked for."""

    resources: Mapping[str, Resource]
    outputs: Mapping[str, Any]
    secret_outputs: frozenset[str]

    @property
    def by_name(self) -> Mapping[str, Resource]:
        """The resources by their name in the stack."""
        return {each.name: each for each in self.resources.values()}

    def chain(self, resource: Resource) -> list[Resource]:
        """The resource's parents, its own first and the stack's child last."""
        found = []
        while (above := self.resources.get(resource.parent)) is not None:
            found.append(above)
            resource = above
        return found


def stack_names() -> list[str]:
    """The stacks that have a file."""
    return sorted(path.stem.removeprefix("Pulumi.") for path in STACKS.glob("Pulumi.*.yaml"))


def stack_file(stack: str) -> dict[str, Any]:
    """What the file of a stack says under `config:`."""
    document = yaml.safe_load((STACKS / f"Pulumi.{stack}.yaml").read_text())
    return dict(document["config"])


def stack_config(stack: str, **changes: str) -> tuple[dict[str, str], set[str]]:
    """Return a stack's configuration by full key, as the program gets it, and which keys are secret.

    `changes` are by field of Settings. What has to be set and is not gets its example.
    """
    given = {f"{PROJECT}:{key_of(field)}": default_of(field) for field in FIELDS} | stack_file(stack)
    given |= {f"{PROJECT}:{key_of(field)}": value for field, value in changes.items()}
    examples = {f"{PROJECT}:{key_of(field)}": str(FIELDS[field].metadata["example"]) for field in FIELDS}
    secret = {f"{PROJECT}:{key_of(field)}" for field in FIELDS if is_secret(field)}
    spelled = {
        key: examples[key] if isinstance(value, dict) and "secure" in value else _spelled(value)
        for key, value in given.items()
    }
    try:
        config.read(_own(spelled), secret_keys={key.partition(":")[2] for key in secret})
    except ConfigError as error:
        spelled |= {f"{PROJECT}:{key}": examples[f"{PROJECT}:{key}"] for key in error.missing}
    return spelled, {key for key in secret if spelled.get(key)}


def _own(given: Config) -> dict[str, str]:
    return {key.partition(":")[2]: value for key, value in given.items() if key.startswith(f"{PROJECT}:")}


def _spelled(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value)


def run(
    stack: str,
    *,
    given: Config,
    secret_keys: set[str],
    preview: bool = False,
    global_outputs: Mapping[str, Any] | None = None,
    run_program: Callable[[], None] = program.run,
) -> Plan:
    """Run the program once and return what it asked for. `preview`: nothing is known that a provider would say."""

    async def inside() -> Plan:
        asyncio.get_running_loop().set_default_executor(executor)
        settings.reset_options()  # a program that failed leaves what it waited for behind, on a loop that is closed
        runtime_config.set_all_config(dict(given), sorted(secret_keys))
        made_up = _MadeUp(preview=preview, global_outputs=global_outputs or GLOBAL_OUTPUTS)
        monitor = _Monitor(made_up)
        mocks.set_mocks(made_up, project=PROJECT, stack=stack, preview=preview, monitor=monitor)
        await run_pulumi_func(run_program)
        root = settings.get_root_resource()
        assert root is not None
        outputs: dict[str, Any] = {}
        secret = set()
        for name, value in root.outputs.items():  # type: ignore[attr-defined]
            output = pulumi.Output.from_input(value)
            outputs[name] = await output.future()
            if await output.is_secret():
                secret.add(name)
        return Plan(resources=monitor.seen, outputs=outputs, secret_outputs=frozenset(secret))

    # One thread of our own, in which the mocks run: they leave an event loop open in each that they are called in.
    with ThreadPoolExecutor(max_workers=1) as executor:
        executor.submit(asyncio.set_event_loop, own := asyncio.new_event_loop()).result()
        try:
            return asyncio.run(inside())
        finally:
            own.close()


GLOBAL_OUTPUTS: Mapping[str, Any] = {
    "hosts": {"us-east": "us-east.leaderboards.example.com", "eu-west": "eu-west.leaderboards.example.com"},
    "pepper": "made-up".ljust(64, "0"),
    "primaryRegion": "us-east",
    "primaryDatabaseUrl": "postgresql://leaderboard:made-up@postgres.us-east.internal:6432/leaderboard",
}


class _MadeUp(mocks.Mocks):
    """A provider's answers: what was asked for, and outside a preview also what only the provider knows."""

    def __init__(self, *, preview: bool, global_outputs: Mapping[str, Any]) -> None:
        self._preview = preview
        self._global_outputs = global_outputs

    def call(self, args: mocks.MockCallArgs) -> Any:
        raise AssertionError(f"the program asks a cloud something: {args.token}")

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        known: dict[str, Any] = dict(args.inputs)
        if args.typ == "pulumi:pulumi:StackReference":
            known |= {"outputs": dict(self._global_outputs), "secretOutputNames": ["pepper", "primaryDatabaseUrl"]}
        elif not self._preview:
            known |= _computed(args)
        return f"{args.name}-id" if args.custom is not False else None, known


def _computed(args: mocks.MockResourceArgs) -> dict[str, Any]:
    """What only the provider knows, made up."""
    match args.typ:
        case "random:index/randomPassword:RandomPassword":
            return {"result": f"{args.name}-made-up".ljust(64, "0")}
        case "aws:iam/role:Role":
            return {"arn": f"arn:aws:iam::000000000000:role/{args.name}"}
        case "aws:eks/cluster:Cluster":
            return {"endpoint": "https://eks.example.com", "certificateAuthority": {"data": "bWFkZSB1cA=="}}
        case "digitalocean:index/kubernetesCluster:KubernetesCluster":
            return {"kubeConfigs": [{"rawConfig": "apiVersion: v1\nkind: Config\n"}]}
    return {}


class _Monitor(mocks.MockMonitor):
    """Writes down each registration: the mocks alone do not tell parent, protection and retention."""

    def __init__(self, made_up: _MadeUp) -> None:
        super().__init__(made_up)
        self.seen: dict[str, Resource] = {}

    def RegisterResource(self, request: Any) -> Any:
        response = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        if request.type != "pulumi:pulumi:Stack":
            self._write_down(response.urn, request, request.object, custom=bool(request.custom))
        return response

    def ReadResource(self, request: Any) -> Any:
        response = super().ReadResource(request)  # type: ignore[no-untyped-call]
        self._write_down(response.urn, request, request.properties, custom=True)
        return response

    def _write_down(self, urn: str, request: Any, properties: Any, *, custom: bool) -> None:
        secrets: set[tuple[str | int, ...]] = set()
        inputs = _plain(rpc.deserialize_properties(properties), (), secrets)
        assert urn not in self.seen, f"two resources have the URN {urn}"
        self.seen[urn] = Resource(
            urn=urn,
            kind=request.type,
            name=request.name,
            parent=request.parent,
            provider=request.provider,
            custom=custom,
            protect=bool(getattr(request, "protect", False)),
            retain=bool(getattr(request, "retainOnDelete", False)),
            inputs=inputs,
            secrets=frozenset(secrets),
        )


def _plain(value: Any, path: tuple[str | int, ...], secrets: set[tuple[str | int, ...]]) -> Any:
    """Take the marks of secrets out of `value` and write down where they were; whole numbers are made so again."""
    if isinstance(value, dict):
        if _SECRET in value:
            secrets.add(path)
            return _plain(value.get("value"), path, secrets)
        return {key: _plain(below, (*path, key), secrets) for key, below in value.items()}
    if isinstance(value, list):
        return [_plain(below, (*path, index), secrets) for index, below in enumerate(value)]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def tree(plan: Plan) -> Iterator[str]:
    """Give the lines of the tree."""
    children: dict[str, list[Resource]] = {}
    for resource in plan.resources.values():
        above = resource.parent if resource.parent in plan.resources else ""
        children.setdefault(above, []).append(resource)

    def below(parent: str, indent: str) -> Iterator[str]:
        found = sorted(children.get(parent, []), key=lambda each: (each.urn in children, each.name))
        for position, resource in enumerate(found, start=1):
            last = position == len(found)
            branch = "" if parent == "" else ("`- " if last else "|- ")
            marks = [word for word, on in (("protected", resource.protect), ("retained", resource.retain)) if on]
            shown = f"  [{', '.join(marks)}]" if marks else ""
            yield f"{indent}{branch}{resource.name}  {_physical(resource)}{shown}"
            yield from below(resource.urn, indent + ("" if parent == "" else ("   " if last else "|  ")))

    yield from below("", "")


def _physical(resource: Resource) -> str:
    kind = resource.kind if not resource.custom else resource.kind.rpartition(":")[2]
    name = physical_name(resource)
    return f"{kind} {name}" if name else kind


def physical_name(resource: Resource) -> str:
    """The name that the resource has where it is made, with its namespace; '' for what has none of its own."""
    metadata = resource.inputs.get("metadata")
    if isinstance(metadata, Mapping):
        return "/".join(str(metadata[part]) for part in ("namespace", "name") if part in metadata)
    for part in ("name", "nodeGroupName", "uid"):
        if part in resource.inputs:
            inside = resource.inputs.get("namespace")
            return f"{inside}/{resource.inputs[part]}" if inside else str(resource.inputs[part])
    return ""


def main() -> None:
    """Print the tree of the stack that the arguments name."""
    parser = argparse.ArgumentParser(description="The resources of a stack as a tree, without a CLI or a cluster.")
    parser.add_argument("stack", choices=stack_names())
    stack = parser.parse_args().stack
    given, secret_keys = stack_config(stack)
    try:
        plan = run(stack, given=given, secret_keys=secret_keys)
    except pulumi.RunError as error:
        sys.exit(f"error: {error}")
    print(f"stack {stack}: {len(plan.resources)} resources")
    for line in tree(plan):
        print(line)


if __name__ == "__main__":
    main()
