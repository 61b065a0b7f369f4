"""Secrets out of what leaves the process: logs and spans carry what others wrote, and that may quote a key or a URL.

An API key loses its secret and keeps its public id, which is what `leaderboard revoke` takes.
"""

import re

# A key in any state: mistyped, cut short or with a tail. Its id has 16 characters; of a shorter one nothing is shown.
_KEY = re.compile(r"(lb_[A-Za-z]{2,8}_(?:[0-9A-Za-z]{16}_)?)[0-9A-Za-z_]+")
_URL_PASSWORD = re.compile(r"(://[^\s/:@\"']*:)[^\s/@\"']+@")
# libpq's DSN, and what repr makes of settings.
_NAMED = re.compile(
    r"(?i)\b(password|passwd|pepper|signing_key|authorization|x-api-key)(\\?[\"']?\s*[=:]\s*)(\\?[\"'])?(?:Bearer\s+)?[^\s\"',}\\]+"
)


def redact_keys(text: str) -> str:
    """Return `text` without API keys: for what has no room for other secrets, such as a path."""
    return _KEY.sub(r"\1***", text) if "lb_" in text else text


def redact(text: str) -> str:
    """Return `text` without API keys, passwords of URLs, and values that are named as secrets."""
    text = redact_keys(text)
    if "://" in text:
        text = _URL_PASSWORD.sub(r"\1***@", text)
    return _NAMED.sub(r"\1\2\3***", text)
