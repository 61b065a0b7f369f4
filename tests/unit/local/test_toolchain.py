import re
from pathlib import Path

import pytest

from leaderboard.local import toolchain
from leaderboard.local.process import LocalError
from leaderboard.local.toolchain import (
    COLLECTOR,
    COMPOSE,
    ETCD,
    HELM,
    KUBE_APISERVER,
    KUBECTL,
    OBSERVABILITY,
    PRETENDED_CLUSTER,
    TOOLS,
    Tool,
    cache,
    find,
    find_or_build,
    in_cache,
    is_network_failure,
    parse_version,
    system,
)

MODULES = Path(toolchain.__file__).parent / "go"


@pytest.fixture(autouse=True)
def _machine_with_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")


def program(path: Path, *, prints: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(0o755)
    return path


def put_in_cache(tool: Tool) -> Path:
    name = f"{tool.name}-{tool.version}-{'-'.join(system())}"
    return program(cache() / name / tool.name, prints=tool.version)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Kubernetes v1.36.3", (1, 36)),
        ("Client Version: v1.32.4-dispatcher\nKustomize Version: v5.5.0", (1, 32)),
        ("etcd Version: 3.6.13\nGit SHA: Not provided", (3, 6)),
        ("v3.19.0+g3d8990f", (3, 19)),
        ("go1.26.8", (1, 26)),
        ("command not found", None),
    ],
)
def test_the_version_is_read_from_what_a_program_prints(text: str, version: tuple[int, int] | None) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    "text",
    [
        'go: k8s.io/api@v0.36.3: Get "https://proxy.example/k8s.io/api": dial tcp: lookup proxy.example: no such host',
        "go: k8s.io/api@v0.36.3: reading https://proxy.example/k8s.io/api/@v/v0.36.3.zip: 502 Bad Gateway",
        "go: k8s.io/api@v0.36.3: module lookup disabled by GOPROXY=off",
    ],
)
def test_a_failure_for_want_of_a_network_is_told_by_its_words(text: str) -> None:
    assert is_network_failure(text)


@pytest.mark.parametrize(
    "text",
    [
        "verifying k8s.io/api@v0.36.3: checksum mismatch\nSECURITY ERROR",
        "missing go.sum entry for module providing package k8s.io/api/core/v1",
        "pkg/main.go:3:1: syntax error: non-declaration statement outside function body",
        "write /cache/kube-apiserver: no space left on device",
    ],
)
def test_any_other_failure_is_not_excused(text: str) -> None:
    assert not is_network_failure(text)


OWN_MAINS = {"otelcol": "go.opentelemetry.io/collector/otelcol", "tempo": "github.com/grafana/tempo"}


def required(tool: Tool) -> tuple[str, dict[str, str]]:
    text = (MODULES / tool.module / "go.mod").read_text()
    return text, dict(re.findall(r"^(?:require )?\s*(\S+) (v\S+)(?: // indirect)?$", text, re.MULTILINE))


@pytest.mark.parametrize("tool", [*TOOLS, *PRETENDED_CLUSTER, *OBSERVABILITY, COMPOSE], ids=lambda tool: tool.name)
def test_a_tool_s_version_is_that_of_the_source_it_is_built_from(tool: Tool) -> None:
    text, versions = required(tool)
    if tool.name in OWN_MAINS:
        assert tool.package == re.search(r"^module (\S+)$", text, re.MULTILINE)[1]
        assert versions[OWN_MAINS[tool.name]] == tool.version
        return
    module = max((path for path in versions if f"{tool.package}/".startswith(f"{path}/")), key=len)
    assert versions[module] == tool.version
    assert re.search(rf"^(?:tool )?\s*{re.escape(tool.package)}$", text, re.MULTILINE)


def test_every_part_of_the_collector_is_of_one_release() -> None:
    _, versions = required(COLLECTOR)
    said = re.findall(r"gomod: (\S+) (v\S+)", (MODULES / "collector" / "builder.yaml").read_text())
    assert len(said) > 5
    assert {part: versions[part] for part, _ in said} == dict(said)


def test_what_is_in_the_cache_is_taken_before_what_is_on_path(tmp_path: Path) -> None:
    on_path = program(tmp_path / "bin" / "kubectl", prints="Client Version: v1.36.0")
    assert find(KUBECTL) == on_path
    kept = put_in_cache(KUBECTL)
    assert find(KUBECTL) == kept == in_cache(cache(), KUBECTL)


@pytest.mark.parametrize("prints", ["Client Version: v1.21.0", "Client Version: v2.0.0", "who knows"])
def test_a_kubectl_of_another_age_on_path_is_passed_over(tmp_path: Path, prints: str) -> None:
    program(tmp_path / "bin" / "kubectl", prints=prints)
    assert find(KUBECTL) is None


def test_helm_4_on_path_is_passed_over(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "helm", prints="v4.0.1+g1234567")
    assert find(HELM) is None


def test_servers_are_never_taken_from_path(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "etcd", prints="etcd Version: 3.6.13")
    assert find(ETCD) is None


def test_a_folder_of_kubernetes_test_tools_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assets = tmp_path / "assets"
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    for tool in (ETCD, KUBE_APISERVER, KUBECTL):
        program(assets / tool.name, prints="v1.34.1")
    for tool in TOOLS:
        put_in_cache(tool)
    for tool in PRETENDED_CLUSTER:  # such a folder has none of these
        assert find(tool) is None
    found = find_or_build(print)
    assert {found.etcd.parent, found.kube_apiserver.parent, found.kubectl.parent} == {assets}
    assert found.helm == in_cache(cache(), HELM)


def test_such_a_folder_must_be_whole_and_not_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "assets"))
    with pytest.raises(LocalError, match="has no etcd"):
        find(ETCD)
    program(tmp_path / "assets" / "kube-apiserver", prints="Kubernetes v1.29.0")
    with pytest.raises(LocalError, match=r"older than Kubernetes 1\.30"):
        find(KUBE_APISERVER)
