"""Takes the roles of Sphinx out of the reference: ``:class:`Mix``` of a docstring is ``Mix`` there.

A hook of MkDocs. Docstrings name what they mean by roles, as editors read them; mkdocstrings takes
docstrings for Markdown, which has none.
"""

from __future__ import annotations

import re

ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):(?=<code>)")


def on_page_content(html: str, **_: object) -> str:
    """Return the page without roles, whose names stay as code."""
    return ROLE.sub("", html)
