"""The pages: whole, self-contained, escaped."""

import copy
import re
from html.parser import HTMLParser

from leaderboard.api import problems
from leaderboard.api.pages import METHODS, curl, page, reference
from leaderboard.api.resources.docs import document

VOID = {"meta", "link", "br"}


class Checker(HTMLParser):
    """Collects what a page has, and fails where an element is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        given = dict(attrs)
        assert not any(name.startswith("on") for name in given)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("href", "src") if name in given]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_reference_is_one_page_without_script_or_anything_from_elsewhere():
    text = reference(document())
    found = Checker(text)
    assert not found.tags & {"script", "img", "iframe", "object", "embed", "form"}
    assert all(link.startswith(("#", "/", "data:,")) for link in found.links)
    assert "@import" not in text
    assert "url(" not in text
    assert "prefers-color-scheme" in text
    assert "width=device-width" in text


def test_reference_has_every_operation_and_every_problem_type():
    found = Checker(reference(document()))
    for path, item in document()["paths"].items():
        for method in set(item) & set(METHODS):
            assert item[method]["operationId"] in found.ids
            assert path in found.text
    for name in problems.TYPES:
        assert f"/problems/{name}" in found.links
    assert len(found.ids) == len(set(found.ids))
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)


def test_what_a_document_says_is_escaped():
    evil = "<script>alert(1)</script>\"'&"
    changed = copy.deepcopy(document())
    changed["info"]["title"] = changed["info"]["description"] = evil
    operation = changed["paths"]["/v1/scores/update"]["post"]
    operation["summary"] = operation["description"] = operation["x-scope"] = evil
    operation["requestBody"]["content"]["application/json"]["examples"]["sum"]["value"]["user"] = evil
    operation["responses"]["200"]["content"]["application/json"]["example"]["user"] = evil
    changed["components"]["parameters"]["IdempotencyKey"]["example"] = evil
    changed["components"]["schemas"]["UpdateResult"]["properties"][evil] = {"type": "string", "default": evil}
    found = Checker(reference(changed))
    assert "script" not in found.tags
    assert found.text.count("<script>alert(1)</script>") >= 8


def test_title_is_escaped_and_the_body_is_not():
    assert "<title>a &lt; b</title>" in page("a < b", "<p>c</p>")
    assert "<p>c</p>" in page("a < b", "<p>c</p>")


def test_curl_lines_carry_the_examples():
    assert curl(document(), "post", "/v1/scores/update") == (
        'curl -X POST "$LEADERBOARD_URL/v1/scores/update" \\\n'
        '  -H "Authorization: Bearer $LEADERBOARD_KEY" \\\n'
        "  -H 'Idempotency-Key: 5f0c4a3e-round-17' \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        '  -d \'{"leaderboard": "global", "user": "u42", "increment": 5}\''
    )
    assert "Authorization: Bearer" in curl(document(), "get", "/v1/keys")
    assert curl(document(), "get", "/dashboard/session") == 'curl "$LEADERBOARD_URL/dashboard/session"'
    assert curl(document(), "get", "/healthz") == 'curl "$LEADERBOARD_URL/healthz"'
    members = curl(document(), "get", "/v1/leaderboards/{leaderboard}/members")
    assert "/v1/leaderboards/global/members?ids=u42&ids=u7&ids=nobody" in members


def test_no_curl_line_has_a_hole():
    for path, item in document()["paths"].items():
        for method in set(item) & set(METHODS):
            assert not re.search(r"[{}]", curl(document(), method, path).split("-d ")[0]), path
