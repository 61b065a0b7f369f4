"""The documentation as a site: `make docs`. The pages are plain Markdown, and read as well on a git host."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "Leaderboard platform kit"
author = "The authors of the leaderboard platform kit"
extensions = ["myst_parser", "source_links", "openapi_page"]
exclude_patterns = ["_ext"]
html_theme = "furo"
html_title = project
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False

# Headings have the anchors that a git host gives them, so `page.md#heading` means the same on both.
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
nitpicky = True
smartquotes = False  # the quotes of the pages are to be copied

# Where the repository is shown, up to the commit or branch: links to source files lead there. Without it they are text.
source_url = os.environ.get("DOCS_SOURCE_URL", "")
