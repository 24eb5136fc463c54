"""Names of models, tools, steps, memory cells (`namespace/name`), remote methods (`endpoint/method`), secrets ...

A pattern is a name or a glob: `*` stays between slashes, `**` spans them. `*` alone is every name.
"""

from __future__ import annotations

from functools import lru_cache

from weft.core.pattern.text import check_stars, checked, nfc
from weft.core.pattern.tree import TreePattern, TreeSubject


def name_pattern(text: str) -> str:
    """The pattern as it is stored. Raises BadInput if it cannot be one."""
    stored = nfc(checked(text, "the name pattern"))
    if stored == "*":
        return "**"
    check_stars(stored.split("/"), text)
    compiled_name(stored).compile()
    return stored


@lru_cache(maxsize=65536)
def compiled_name(stored: str) -> TreePattern:
    """The matcher of a stored name pattern."""
    return TreePattern(stored.split("/"), subtree=False)


def name_subject(resource: str) -> TreeSubject | None:
    """What a request for this name is about."""
    return None if "\0" in resource else TreeSubject("/" + resource)
