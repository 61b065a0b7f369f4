"""grafana/docker-compose.yaml: the servers that Pulumi makes, and nothing that a small VM should not have."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from leaderboard_infra.observability import FILES

FILE = FILES / "docker-compose.yaml"
SERVICES: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
SERVERS = {name: service for name, service in SERVICES.items() if name != "volumes"}
MEGABYTES = {"m": 1, "g": 1024}
VARIABLE = re.compile(r"\$\{\w+:[-?]([^}]*)\}")


def with_defaults(text: str) -> str:
    return VARIABLE.sub(r"\1", text)


def size(text: str) -> int:
    return int(text[:-1]) * MEGABYTES[text[-1]]


@pytest.fixture
def made(planned: Any) -> dict[str, dict[str, Any]]:
    """The pods' specs of the bundled stack, by server."""
    run = planned("local", observability_mode="bundled", telemetry_retention="15d")
    specs = [
        each.inputs["spec"]["template"]["spec"]
        for each in run.resources.values()
        if each.kind.rpartition(":")[2] in ("Deployment", "StatefulSet")
    ]
    return {spec["containers"][0]["name"]: spec for spec in specs if spec["containers"][0]["name"] in SERVERS}


def test_servers_images_arguments_and_variables_are_those_of_pulumi(made: dict[str, dict[str, Any]]) -> None:
    assert made.keys() == SERVERS.keys()
    for name, spec in made.items():
        [container] = spec["containers"]
        service = SERVERS[name]
        assert service["image"] == container["image"]
        arguments = [with_defaults(argument) for argument in service.get("command", [])]
        assert arguments == [argument.replace("=15d", "=360h") for argument in container.get("args", [])]
        plain = {each["name"]: each["value"] for each in container["env"] if "value" in each}
        password = "GF_SECURITY_ADMIN_PASSWORD"
        said = {key: with_defaults(value) for key, value in service.get("environment", {}).items() if key != password}
        assert said == plain
        assert (password in service.get("environment", {})) == (name == "grafana")


def test_users_and_memory_are_those_of_pulumi(made: dict[str, dict[str, Any]]) -> None:
    for name, spec in made.items():
        user = spec["securityContext"]["runAsUser"]
        assert SERVERS[name]["user"].split(":")[0] == str(user) != "0"
        limit = spec["containers"][0]["resources"]["limits"]["memory"]
        assert size(SERVERS[name]["mem_limit"]) == size(limit.removesuffix("i").lower())


def test_all_together_leave_something_of_four_gigabytes() -> None:
    assert sum(size(service["mem_limit"]) for service in SERVICES.values()) <= 3500


def test_every_server_is_confined_and_only_grafana_and_otlp_are_published() -> None:
    for service in SERVICES.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "privileged" not in service
    published = {name: [with_defaults(port) for port in each.get("ports", [])] for name, each in SERVICES.items()}
    assert {name: ports for name, ports in published.items() if ports} == {
        "collector": ["127.0.0.1:4317:4317", "127.0.0.1:4318:4318"],
        "grafana": ["127.0.0.1:3000:3000"],
    }


def test_every_configuration_that_is_mounted_is_there_and_read_only() -> None:
    for service in SERVERS.values():
        for mount in service["volumes"]:
            if mount.startswith("./"):
                source, target, mode = mount.split(":")
                assert mode == "ro"
                assert target == f"/etc/leaderboard/{source.removeprefix('./')}"
                assert source in ("./rules", "./dashboards") or (FILES / source).exists()


def test_docker_compose_takes_it_and_wants_a_password(docker_compose: Path, tmp_path: Path) -> None:
    command = [docker_compose, "-f", FILE, "config", "--quiet"]
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    refused = subprocess.run(command, capture_output=True, text=True, env=env)
    assert refused.returncode != 0
    assert "GRAFANA_PASSWORD" in refused.stderr
    taken = subprocess.run(command, capture_output=True, text=True, env=env | {"GRAFANA_PASSWORD": "secret"})
    assert taken.returncode == 0, taken.stderr
    assert taken.stderr == ""
