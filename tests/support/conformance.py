"""The cases that every SDK is held to."""

import json
from typing import Any

from support.docs import ROOT

CASES = json.loads((ROOT / "sdk/conformance/cases.json").read_text())["cases"]


def filled(value: Any, names: dict[str, str]) -> Any:
    """Return the case with each {name} replaced."""
    if isinstance(value, str):
        for name, text in names.items():
            value = value.replace("{" + name + "}", text)
        return value
    if isinstance(value, dict):
        return {key: filled(each, names) for key, each in value.items()}
    return [filled(each, names) for each in value] if isinstance(value, list) else value


def kept(answer: Any, path: str) -> str:
    """Return the text at a path of an answer, such as ``0.held.id``."""
    for step in path.split("."):
        answer = answer[int(step) if isinstance(answer, list) else step]
    assert isinstance(answer, str)
    return answer
