"""The Chromium of this machine, for Playwright."""

import shutil

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Nothing of it asks the network; and root, as in containers, has no sandbox.
ARGUMENTS = ("--no-sandbox", "--disable-quic", "--disable-background-networking", "--disable-component-update")


def find_chromium() -> str:
    """Return the path of Chromium. Raises LookupError where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise LookupError(f"no Chromium on PATH (looked for {', '.join(NAMES)})")
    return found
