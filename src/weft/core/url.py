"""URLs as they may be shown."""

from __future__ import annotations

import re

_PASSWORD = re.compile(r"(?<=://)([^/@\s]*?):(\S*)(?=@)")  # up to the last @: it may stand in a password
_QUERY = re.compile(r"(?i)([?&](?:password|sslpassword|passfile)=)[^&\s]*")


def mask(url: str) -> str:
    """The URL with its password, in the authority or the query, replaced by stars."""
    return _QUERY.sub(r"\1***", _PASSWORD.sub(r"\1:***", url))
