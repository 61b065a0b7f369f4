"""Reading YAML, and the settings of a local platform, without servers."""

import pytest

from leaderboard import cli
from leaderboard.config import ConfigError
from leaderboard.domain.documents import LeaderboardDocument, TenantDocument

TENANT = """
apiVersion: leaderboard.saas/v1alpha1
kind: Tenant
metadata: {name: acme}
spec: {slug: acme}
"""
BOARD = """
apiVersion: leaderboard.saas/v1alpha1
kind: Leaderboard
metadata: {name: b}
spec: {tenantRef: {name: acme}, key: b}
"""


def write(folder, *texts):
    path = folder / "doc.yaml"
    path.write_text("---\n".join(texts))
    return str(path)


def test_tenants_come_before_boards_whatever_the_order(tmp_path):
    found = cli.read_documents([write(tmp_path, BOARD, TENANT, "\n")])
    assert [type(document) for document in found] == [TenantDocument, LeaderboardDocument]


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ((TENANT, BOARD.replace("key: b", "key: B")), "doc.yaml: document 2: Leaderboard/b: .*must match"),
        ((TENANT, "a: [1"), "doc.yaml: document 2: not YAML"),
        ((TENANT, BOARD.replace("key: b", "key: 2026-02-30")), "doc.yaml: document 2: not YAML: day is out of range"),
        ((TENANT, "- 1\n"), "doc.yaml: document 2: must be a mapping"),
        ((TENANT, TENANT.replace("slug: acme", "slug: acme, colour: red")), "document 2: .*colour"),
        (("\n",), "no documents in"),
    ],
)
def test_bad_input_names_file_and_document(tmp_path, texts, says):
    with pytest.raises(cli.Refused, match=says):
        cli.read_documents([write(tmp_path, *texts)])


def test_a_missing_file_exits_1(tmp_path, capsys):
    assert cli._main(["apply", "-f", str(tmp_path / "none.yaml")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_the_example_is_read():
    from pathlib import Path

    example = Path(__file__).parents[3] / "examples" / "tenant.yaml"
    tenant, first, second = cli.read_documents([str(example)])
    assert (tenant.spec.slug, first.spec.key, second.spec.key) == ("acme", "global", "fastest-lap")


ENV = "LEADERBOARD_REDIS_URL='redis://:p w@h:1'\nLEADERBOARD_DATABASE_URL=postgresql://x\nLEADERBOARD_PEPPER={}\n"


def test_the_data_folder_gives_the_settings_where_the_environment_has_none(tmp_path):
    (tmp_path / "env").write_text(ENV.format("p" * 32))
    config = cli._load(tmp_path, {"LEADERBOARD_REGION": "eu"})
    assert (config.redis_url, config.database_url, config.region) == ("redis://:p w@h:1", "postgresql://x", "eu")


def test_the_environment_is_not_mixed_with_the_folder(tmp_path):
    (tmp_path / "env").write_text(ENV.format("p" * 32))
    with pytest.raises(ConfigError, match="LEADERBOARD_DATABASE_URL"):
        cli._load(tmp_path, {"LEADERBOARD_REDIS_URL": "redis://other"})


def test_without_either_the_message_says_what_to_do(tmp_path, capsys, monkeypatch):
    for name in cli._REQUIRED:
        monkeypatch.delenv(name, raising=False)
    assert cli._main(["revoke", "x", "--data", str(tmp_path)]) == 2
    assert "leaderboard up" in capsys.readouterr().err


def test_no_command_is_an_argument_error(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli._main([])
    assert stopped.value.code == 2
