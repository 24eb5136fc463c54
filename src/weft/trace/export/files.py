"""Where exports go: a file that is whole or not there, or stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from weft.core.errors import BadInput


@contextmanager
def written(path: Path | None) -> Iterator[IO[bytes]]:
    """The file, open to be written; it takes its name when all is in it. None: stdout. Raises BadInput, naming it."""
    if path is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    special = path.exists() and not path.is_file()  # a pipe or a device keeps its place
    beside = path if special else path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as out:
            yield out
        if not special:
            beside.replace(path)
    except OSError as error:
        raise BadInput(f"{path} could not be written: {error}") from None
    finally:
        if not special:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
