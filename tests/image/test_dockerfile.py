"""What the Dockerfile promises, read without an engine."""

import re

from support.engine import REPOSITORY, default_base

DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


def test_the_base_is_pinned_by_digest():
    assert re.fullmatch(r"\S+:\S+@sha256:[0-9a-f]{64}", default_base())
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${BASE}", "${BASE}"]


def test_the_build_uses_the_same_uv_as_make():
    makefile = (REPOSITORY / "Makefile").read_text()
    version = re.search(r"^UV_VERSION := (\S+)$", makefile, re.MULTILINE)
    assert version is not None
    assert f"\nuv=={version[1]} " in (REPOSITORY / "Dockerfile.requirements.txt").read_text()


def test_the_build_sees_what_it_copies_and_nothing_else():
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    seen = re.findall(r"^!(.+)$", (REPOSITORY / ".dockerignore").read_text(), re.MULTILINE)
    assert sorted(" ".join(copied).split()) == sorted(seen)
    assert (REPOSITORY / ".dockerignore").read_text().splitlines()[1] == "*"


def test_both_builders_take_it():
    assert "--mount" not in DOCKERFILE
    assert "<<" not in DOCKERFILE
