import base64
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from leaderboard.local.kubernetes import certificates_in, kubeconfig_text, new_signing_key, valid_until

CERTIFICATE = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"


def test_a_kubeconfig_names_one_cluster_one_user_and_a_namespace() -> None:
    cluster = {"server": "https://127.0.0.1:1", "certificate-authority-data": "YQ=="}
    config = yaml.safe_load(kubeconfig_text(cluster, token="secret", namespace="games"))
    assert config["clusters"] == [{"name": "leaderboard", "cluster": cluster}]
    assert config["users"] == [{"name": "leaderboard", "user": {"token": "secret"}}]
    assert config["contexts"][0]["context"]["namespace"] == "games"
    assert config["current-context"] == config["contexts"][0]["name"]


def test_each_signing_key_is_another_one_of_32_bytes() -> None:
    first, second = new_signing_key(), new_signing_key()
    assert first != second
    der = base64.b64decode("".join(first.splitlines()[1:-1]))
    assert der[1] == len(der) - 2
    assert len(der) == 51


@pytest.mark.skipif(shutil.which("openssl") is None, reason="asks openssl")
def test_a_signing_key_is_what_others_take_for_one() -> None:
    shown = subprocess.run(
        ["openssl", "ec", "-noout", "-text"], input=new_signing_key(), capture_output=True, text=True
    )
    assert shown.returncode == 0, shown.stderr
    assert "NIST CURVE: P-256" in shown.stdout


def test_each_certificate_of_a_chain_is_found() -> None:
    chain = [CERTIFICATE.format("leaf"), CERTIFICATE.format("authority")]
    assert certificates_in("".join(chain)) == chain
    assert certificates_in(chain[0] + "-----BEGIN CERTIFICATE-----\nhalf") == chain[:1]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="asks openssl")
def test_a_chain_is_valid_until_its_first_certificate_ends(tmp_path: Path) -> None:
    chain = [certificate(tmp_path, days=days) for days in (900, 7)]
    ends = valid_until("".join(chain))
    assert ends is not None
    assert timedelta(days=6) < ends - datetime.now(UTC) <= timedelta(days=7)


@pytest.mark.parametrize("text", ["", CERTIFICATE.format(base64.b64encode(b"no certificate").decode())])
def test_what_is_no_certificate_has_no_end(text: str) -> None:
    assert valid_until(text) is None


def certificate(folder: Path, *, days: int) -> str:
    """A certificate that lasts so long, made by openssl."""
    path = folder / "certificate"
    new = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=a",
    ]
    command = [*new, "-days", str(days), "-keyout", str(folder / "key"), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path.read_text()
