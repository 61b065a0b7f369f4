"""The operator's settings: read once, checked whole, and a wrong one is named."""

import pytest

from leaderboard.config import ConfigError
from leaderboard_operator import config
from leaderboard_operator.config import OperatorConfig, load

NAMESPACE = {"LEADERBOARD_OPERATOR_NAMESPACE": "ops"}


def given(**values):
    return NAMESPACE | {f"LEADERBOARD_OPERATOR_{name}": value for name, value in values.items()}


def test_the_namespace_alone_is_enough():
    loaded = load(NAMESPACE)
    assert loaded.namespace == "ops"
    assert (loaded.lease_seconds, loaded.renew_seconds, loaded.retry_seconds) == (15, 10.0, 2.0)
    assert loaded.sweep_seconds == 60.0


def test_every_setting_can_be_given():
    values = {
        "namespace": "here",
        "endpoint": "https://scores.example.com",
        "identity": "one",
        "bind": "[::1]:9000",
        "sweep_seconds": 30.0,
        "lease_seconds": 30,
        "renew_seconds": 20.0,
        "retry_seconds": 5.0,
        "board_batch": 10,
        "tenant_workers": 2,
        "api_connections": 8,
    }
    assert set(values) == set(OperatorConfig.__struct_fields__)
    environ = {f"LEADERBOARD_OPERATOR_{name.upper()}": str(value) for name, value in values.items()}
    assert load(environ) == OperatorConfig(**values)


def test_in_a_pod_the_namespace_is_the_pods(monkeypatch, tmp_path):
    (tmp_path / "namespace").write_text("from-the-pod\n")
    monkeypatch.setattr(config, "_NAMESPACE_FILE", tmp_path / "namespace")
    assert load({}).namespace == "from-the-pod"
    assert load({"LEADERBOARD_OPERATOR_NAMESPACE": ""}).namespace == "from-the-pod"
    assert load(NAMESPACE).namespace == "ops"


def test_elsewhere_a_missing_namespace_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(config, "_NAMESPACE_FILE", tmp_path / "nothing")
    with pytest.raises(ConfigError, match="LEADERBOARD_OPERATOR_NAMESPACE"):
        load({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SWEEP_SECONDS", "0"),
        ("SWEEP_SECONDS", "-1"),
        ("SWEEP_SECONDS", "nan"),
        ("SWEEP_SECONDS", "soon"),
        ("SWEEP_SECONDS", "inf"),
        ("BIND", "localhost"),
        ("BIND", "localhost:http"),
        ("BIND", "[::1]"),
        ("BOARD_BATCH", "0"),
        ("BOARD_BATCH", "1.5"),
        ("TENANT_WORKERS", "many"),
        ("API_CONNECTIONS", "-3"),
        ("LEASE_SECONDS", "10"),
        ("RENEW_SECONDS", "15"),
        ("RENEW_SECONDS", "2"),
        ("RETRY_SECONDS", "10"),
    ],
)
def test_a_wrong_value_is_refused_with_its_variable(name, value):
    with pytest.raises(ConfigError, match="LEADERBOARD_OPERATOR_") as refused:
        load(given(**{name: value}))
    assert name in str(refused.value).upper()


@pytest.mark.parametrize(
    ("lease", "renew", "retry", "right"),
    [("15", "10", "2", True), ("3", "2", "0.2", True), ("10", "10", "2", False), ("15", "2", "2", False)],
)
def test_a_leader_gives_up_before_its_lease_ends_and_tries_several_times(lease, renew, retry, right):
    environ = given(LEASE_SECONDS=lease, RENEW_SECONDS=renew, RETRY_SECONDS=retry)
    if right:
        load(environ)
    else:
        with pytest.raises(ConfigError, match=r"RETRY_SECONDS < .*RENEW_SECONDS < .*LEASE_SECONDS"):
            load(environ)


def test_each_start_has_a_name_of_its_own():
    assert load(NAMESPACE).identity != load(NAMESPACE).identity
    assert load(given(IDENTITY="mine")).identity == "mine"


def test_an_empty_identity_is_none():
    """Two replicas with it would both take the Lease for theirs."""
    assert load(given(IDENTITY="")).identity


def test_variables_of_others_are_left_alone():
    theirs = {"LEADERBOARD_REDIS_URL": "redis://x", "LEADERBOARD_OPERATOR_COLOUR": "red", "PATH": "/bin"}
    assert load(given(IDENTITY="one") | theirs) == load(given(IDENTITY="one"))
