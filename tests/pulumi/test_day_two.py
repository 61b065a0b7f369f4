"""What a change of one setting changes, and what it leaves alone."""

import re

import pytest
import yaml

from leaderboard_infra import plan
from leaderboard_infra.observability import FILES
from leaderboard_infra.plan import Plan


def changed(before: Plan, after: Plan) -> set[str]:
    """The names of what is made, goes, or is not as it was."""
    old, new = before.by_name, after.by_name
    differing = {name for name in old.keys() & new.keys() if old[name] != new[name]}
    return differing | (old.keys() ^ new.keys())


@pytest.mark.parametrize(
    ("stack", "change", "names"),
    [
        ("local", {"api_replicas": "3"}, {"release", "postgres-server"}),
        ("local", {"worker_replicas": "2"}, {"release"}),
        ("local", {"image_tag": "0.2.0"}, {"release"}),
        ("local", {"log_level": "debug"}, {"release"}),
        ("local", {"tenant_namespaces": '["games"]'}, {"release"}),
        ("local", {"redis_appendfsync": "always"}, {"redis-config", "redis-server"}),
        ("local", {"telemetry_retention": "3d"}, {"prometheus", "loki", "tempo"}),
        ("us-east", {"node_max": "9"}, {"nodes"}),
        ("us-east", {"backup_schedule": "0 0 4 * * *"}, {"postgres-backups"}),
        ("us-east", {"backup_retention": "60d"}, {"postgres-backups-store"}),
        ("eu-west", {"node_max": "9"}, {"doks"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_a_changed_value_changes_only_what_it_should(planned, stack: str, change, names) -> None:
    found = changed(planned(stack), planned(stack, **change))
    assert {name.removeprefix(f"{stack}-") for name in found} <= names
    assert found


def test_a_new_password_reaches_the_database_its_secret_and_the_pods(planned) -> None:
    before, after = planned("us-east"), planned("us-east", postgres_password_version="2")
    assert changed(before, after) == {"us-east-postgres-password"}
    assert after.by_name["us-east-postgres-password"].inputs["keepers"] == {"version": "2"}
    # The mocks make the same password up; where it is another, the pods are told by the digest of what they read.
    secret = after.by_name["us-east-postgres-credentials"]
    assert secret.inputs["metadata"]["labels"] == {"cnpg.io/reload": "true"}
    external = {"postgres_mode": "external", **_UNUSED}
    old, new = (
        planned("local", **external, postgres_url=f"postgresql://u:hidden-{which}@db/d") for which in ("old", "new")
    )
    assert changed(old, new) == {"local-credentials", "local-release"}
    annotations = [
        [values[role]["podAnnotations"] for role in ("api", "worker", "operator")]
        for values in (each.by_name["local-release"].inputs["values"] for each in (old, new))
    ]
    assert all(one != other for one, other in zip(*annotations, strict=True))


_UNUSED = {"postgres_memory": "1Gi", "postgres_storage": "20Gi"}  # what the local stack sets, back at its default


def test_a_new_password_of_redis_restarts_it_and_the_pods(planned) -> None:
    found = changed(planned("local"), planned("local", redis_password_version="2"))
    assert found == {"local-redis-password", "local-redis-server"}


def test_data_outlives_the_stack_whether_or_not_it_may_be_deleted(planned) -> None:
    for protect in ("true", "false"):
        kept = {each.name for each in planned("us-east", protect_data=protect).resources.values() if each.retain}
        assert kept == {
            "us-east-namespace",
            "us-east-telemetry-namespace",
            "us-east-postgres-cluster",
            "us-east-postgres-credentials",
            "us-east-credentials",
            "us-east-crd-tenants",
            "us-east-crd-leaderboards",
        }


def test_protection_follows_one_setting(planned) -> None:
    protected = {each.name for each in planned("us-east").resources.values() if each.protect}
    assert {"us-east-eks", "us-east-redis-replication", "us-east-loki", "us-east-postgres-cluster"} <= protected
    assert not any(each.protect for each in planned("us-east", protect_data="false").resources.values())


def test_the_database_takes_every_connection_that_the_platform_opens(planned) -> None:
    pooler = planned("us-east").by_name["us-east-postgres-pooler"].inputs["spec"]["pgbouncer"]
    assert pooler["poolMode"] == "session"
    # 12 API pods and one more in an upgrade, 4 each; 2 workers and one more, 10 each; two operators with 12.
    assert int(pooler["parameters"]["default_pool_size"]) == 13 * 4 + 3 * 10 + 24
    database = planned("us-east").by_name["us-east-postgres-cluster"].inputs["spec"]["postgresql"]["parameters"]
    assert int(database["max_connections"]) >= int(pooler["parameters"]["default_pool_size"]) + 20


def test_the_numbers_of_connections_are_those_of_the_platform() -> None:
    import msgspec

    from leaderboard.config import Config
    from leaderboard.worker.run import POOL_SIZE
    from leaderboard_infra import postgres
    from leaderboard_operator.config import OperatorConfig

    defaults = {field.name: field.default for field in msgspec.structs.fields(Config)}
    assert defaults["database_pool"] == postgres._POOL
    assert POOL_SIZE == postgres._WORKER_POOL
    operator = {field.name: field.default for field in msgspec.structs.fields(OperatorConfig)}
    assert operator["tenant_workers"] + 6 <= postgres._OPERATOR_POOL


def test_the_servers_have_the_names_and_ports_that_the_files_of_grafana_say(planned) -> None:
    services = {
        each.inputs["metadata"]["name"]: {port["port"] for port in each.inputs["spec"]["ports"]}
        for each in planned("local").resources.values()
        if each.kind.endswith(":Service") and each.parent.endswith("local-observability")
    }
    text = re.sub(r"\$\{env:\w+:-([^}]*)\}", r"\1", (FILES / "collector.yaml").read_text())  # as in containers
    collector = yaml.safe_load(text)
    urls = [exporter["endpoint"] for exporter in collector["exporters"].values()]
    sources = yaml.safe_load((FILES / "provisioning" / "datasources" / "datasources.yaml").read_text())
    urls += [source["url"] for source in sources["datasources"]]
    assert len(urls) == 6
    for url in urls:
        host, _, port = url.removeprefix("http://").partition("/")[0].partition(":")
        assert int(port) in services[host], url
    protocols = collector["receivers"]["otlp"]["protocols"]
    listening = {protocol["endpoint"].rpartition(":")[2] for protocol in protocols.values()}
    assert {str(port) for port in services["collector"]} == listening


def test_dashboards_and_rules_are_mounted_where_grafana_and_prometheus_look(planned, monkeypatch, tmp_path) -> None:
    from leaderboard_infra import observability

    for path in FILES.rglob("*.yaml"):
        copy = tmp_path / path.relative_to(FILES)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    (tmp_path / "dashboards").mkdir()
    (tmp_path / "dashboards" / "platform_overview.json").write_text('{"title": "Platform"}')
    (tmp_path / "rules").mkdir(exist_ok=True)
    (tmp_path / "rules" / "slo.yaml").write_text("groups: []\n")
    monkeypatch.setattr(observability, "FILES", tmp_path)
    given, secret_keys = plan.stack_config("local")
    found = plan.run("local", given=given, secret_keys=secret_keys)

    def mounted(server: str) -> set[str]:
        spec = found.by_name[f"local-{server}"].inputs["spec"]["template"]["spec"]
        (config,) = [volume for volume in spec["volumes"] if volume["name"] == "config"]
        return {source["configMap"]["items"][0]["path"] for source in config["projected"]["sources"]}

    assert {"dashboards/platform_overview.json", "provisioning/dashboards/dashboards.yaml"} <= mounted("grafana")
    assert {"prometheus.yaml", "rules/slo.yaml"} <= mounted("prometheus")
    config_map = found.by_name["local-grafana-dashboards-platform-overview-config"]
    assert config_map.inputs["data"] == {"platform_overview.json": '{"title": "Platform"}'}
    before = found.by_name["local-grafana"].inputs["spec"]["template"]["metadata"]["annotations"]
    (tmp_path / "dashboards" / "platform_overview.json").write_text('{"title": "Another"}')
    after = plan.run("local", given=given, secret_keys=secret_keys)
    assert before != after.by_name["local-grafana"].inputs["spec"]["template"]["metadata"]["annotations"]


def test_a_stack_has_no_dashboards_and_goes_up_all_the_same(planned, monkeypatch, tmp_path) -> None:
    from leaderboard_infra import observability

    monkeypatch.setattr(observability, "FILES", tmp_path)
    given, secret_keys = plan.stack_config("local")
    found = plan.run("local", given=given, secret_keys=secret_keys)
    spec = found.by_name["local-grafana"].inputs["spec"]["template"]["spec"]
    assert spec["volumes"][0]["projected"] == {"sources": []}
