"""The HTML of ``/docs``: placeholder, being written."""

from html import escape
from typing import Any


def page(title: str, body: str) -> str:
    """Return a whole HTML page."""
    return f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><body>{body}"


def reference(document: dict[str, Any]) -> str:
    """Return the reference page of an OpenAPI document."""
    return page(document["info"]["title"], "<h1>API</h1>")
