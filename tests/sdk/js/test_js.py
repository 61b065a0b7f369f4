"""The JavaScript SDK: built as it is published, its own tests, and all of it against the real server."""

import itertools
import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from leaderboard.local.node import find_node
from leaderboard_sdk import Client
from support.conformance import CASES, filled
from support.docs import blocks, run, snippets
from support.faults import COUNT, EXPECTED, FAULTS, TIMEOUT, USERS, FaultProxy
from support.js_package import Package, build_package
from support.platform import Platform
from support.tenants import make_tenant

HERE = Path(__file__).parent

_runs = itertools.count(1)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    built = build_package(tmp_path_factory.mktemp("js") / "sdk")
    for script in HERE.glob("*.mjs"):
        shutil.copy(script, built.folder)
    return built


# node16 is what lets no CommonJS program require a module that is none, as Node.js 20 does not.
@pytest.mark.parametrize(("kind", "module"), [("module", "nodenext"), ("commonjs", "node16")])
def test_typescript_finds_the_types_and_refuses_what_is_wrong(
    package: Package, tmp_path: Path, kind: str, module: str
) -> None:
    shutil.copytree(HERE / "types", tmp_path, dirs_exist_ok=True)
    (tmp_path / "package.json").write_text(json.dumps({"private": True, "type": kind}))
    package.install_into(tmp_path)
    package.run("node_modules/.bin/tsc", "--noEmit", "--project", str(tmp_path), "--module", module)


def test_its_own_tests_pass(package: Package) -> None:
    package.run("npm", "test")


def test_what_is_published_is_the_build_and_no_test(package: Package) -> None:
    (packed,) = json.loads(package.run("npm", "pack", "--dry-run", "--json"))
    files = {file["path"] for file in packed["files"]}
    assert files >= {"README.md", "LICENSE", "package.json", "dist/esm/index.js", "dist/cjs/index.js"}
    assert {name for name in files if not name.startswith("dist/")} == {"README.md", "LICENSE", "package.json"}


def test_it_is_installed_as_its_page_says(package: Package, tmp_path: Path) -> None:
    (tmp_path / "sdk").mkdir()
    (tmp_path / "sdk/js").symlink_to(package.folder)
    (block,) = blocks("sdk/js/README.md")
    build, install = block.splitlines()
    assert build == "make sdk-js"  # it is built already; test_docs.py has the target itself
    env = os.environ | {"PATH": f"{find_node()}:{os.environ['PATH']}"}
    run(install, env=env, cwd=tmp_path)
    for file, text in {
        "asked.mjs": 'import { Client } from "leaderboard-sdk"; console.log(Client.name);',
        "asked.cjs": 'console.log(require("leaderboard-sdk").Client.name);',
    }.items():
        (tmp_path / file).write_text(text)
        assert run(f"node {file}", env=env, cwd=tmp_path) == "Client\n"


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_case_holds(served: Platform, package: Package, case: dict[str, Any]) -> None:
    tenant = make_tenant(served)
    case = filled(case, {"run": str(next(_runs)), "tenant": tenant.slug})
    package.run("node", "conformance.mjs", given={"url": served.url, "key": tenant.key, "case": case})


def test_a_board_is_read_as_it_was(served: Platform, package: Package) -> None:
    key = make_tenant(served).key
    with Client(served.url, key) as client:
        client.update("global", "ann", increment=5)
        at = datetime.now(UTC).isoformat()
        client.update("global", "bob", increment=7)
    entry = {"rank": 1, "user": "ann", "score": 5}
    steps = [
        {
            "call": "history_top",
            "args": {"leaderboard": "global", "at": at},
            "expect": {"entries": [entry], "total": 1},
        },
        {"call": "history_rank", "args": {"leaderboard": "global", "user": "ann", "at": at}, "expect": entry},
    ]
    package.run(
        "node", "conformance.mjs", given={"url": served.url, "key": key, "case": {"boards": [], "steps": steps}}
    )


def test_users_whom_a_path_would_lose_are_updated_and_read(served: Platform, package: Package) -> None:
    steps: list[dict[str, Any]] = [
        {"call": "update", "args": {"leaderboard": "global", "user": user, "increment": 5}, "expect": {"user": user}}
        for user in (".", "..")
    ]
    ids = {"leaderboard": "global", "ids": [".", ".."]}
    steps.append(
        {"call": "members", "args": ids, "expect": {"entries": [{"user": ".", "score": 5}, {"user": "..", "score": 5}]}}
    )
    key = make_tenant(served).key
    package.run(
        "node", "conformance.mjs", given={"url": served.url, "key": key, "case": {"boards": [], "steps": steps}}
    )
    with Client(served.url, key) as client:  # which the page says to use for the rest
        assert client.rank("global", "..").score == 5
        client.remove_member("global", ".")
        assert [entry.user for entry in client.iter_top("global")] == [".."]


@pytest.mark.parametrize(("share", "batched"), [(0.05, False), (0.3, True)], ids=["update", "batcher"])
def test_updates_count_once(served: Platform, package: Package, share: float, batched: bool) -> None:
    key = make_tenant(served).key
    with FaultProxy(served.url, share=share).running() as proxy:
        given = {"url": proxy.url, "key": key, "count": COUNT, "users": USERS, "batched": batched}
        given["timeout"] = TIMEOUT * 1000
        package.run("node", "increments.mjs", given=given)
    assert set(proxy.done) == FAULTS, proxy.done
    with Client(served.url, key) as client:
        assert {entry.user: entry.score for entry in client.iter_top("global")} == EXPECTED


def test_a_watched_top_changes_live_and_goes_on_after_a_cut(served: Platform, package: Package) -> None:
    package.run("node", "watch.mjs", given={"url": served.url, "key": make_tenant(served).key})


def test_the_snippets_of_the_page_work(served: Platform, package: Package) -> None:
    key = make_tenant(served).key
    codes = [text for language, text in snippets("sdk/js/README.md") if language == "js"]
    assert len(codes) == 3
    script = "".join(codes).replace("https://leaderboards.example.com", served.url)
    (package.folder / "page.mjs").write_text(script)
    said = package.run("node", "page.mjs", LEADERBOARD_KEY=key)
    assert said.startswith("5 1\n1 u42 5\nuser-not-found ")
    with Client(served.url, key) as client:
        assert client.rank("season-1", "u42").score == 10
