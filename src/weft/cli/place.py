"""Which store a command uses when its words name none.

Every command comes along here, so nothing heavy is loaded unless there is a settings file.
"""

from __future__ import annotations

import os

from weft.core.settings_file import settings_file


def default_store() -> str | None:
    """`$WEFT_STORE`, else what the settings file says; None if neither says anything. Raises BadInput for a settings
    file that is wrong, and MissingExtra if there is one and the extra `worker` is not installed."""
    given = os.environ.get("WEFT_STORE")
    if given:
        return given
    if settings_file() is None:
        return None
    from weft.cli.settings import load_settings

    return load_settings().store
