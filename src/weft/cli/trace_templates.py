"""`weft trace templates`: the templates behind the lines of a log, or of what a run's tools printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from weft.cli.failures import reported
from weft.cli.words import AsJson, StorePlace

if TYPE_CHECKING:
    from weft.core.lines import Line
    from weft.store.base import Store


@reported
def templates(
    source: Annotated[
        str, typer.Argument(metavar="FILE|RUN", help="A file of lines (- for stdin), or a run: what its tools printed.")
    ],
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="CATEGORY", help="Print the lines, with the values of these kinds, as in STC; repeat."),
    ] = None,
    folded: Annotated[bool, typer.Option("--fold", help="Print the text with its repeats counted.")] = False,
    store: StorePlace = None,
    json: AsJson = False,
) -> None:
    """Say which templates the lines come from, how many of each, and what kind each variable is.

    Kinds: OID identifier, LOI location, OBN name, TID type, SID switch, TDA time, CRS memory or bytes, OBA amount,
    STC status code, OTP other.
    """
    from weft.cli.render import out
    from weft.core.errors import BadInput
    from weft.core.lines import KEPT, Folder, Templates

    if json and (keep or folded):
        raise BadInput("--json tells templates and their values: leave out --keep and --fold")
    lines = _lines(store, source)
    if folded:
        print(Folder(keep or KEPT).fold("\n".join(lines)))
        return
    learnt = Templates()
    read = [learnt.parse(line) for line in lines if line.strip()]
    if keep:
        for line in read:
            print(line.shown(keep))
    elif json:
        out({"lines": len(read), "templates": _plain(read)})
    else:
        for one in _plain(read):
            print(f"{one['count']:>8,}  {one['shown']}")


def _lines(store: str | None, source: str) -> Iterable[str]:
    """The file's lines, or the run's."""
    import sys

    from weft.cli.look import ask, present
    from weft.trace.templates import outputs

    if source == "-":
        return (line.rstrip("\n") for line in sys.stdin)
    if Path(source).exists() or any(mark in source for mark in "./\\"):
        return _read(Path(source))
    row = present(store, source)

    async def look(opened: Store) -> list[str]:
        return [line async for text in outputs(opened, row.id) for line in text.splitlines()]

    return ask(store, look)


def _read(path: Path) -> Iterator[str]:
    from weft.core.errors import BadInput

    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                yield line.rstrip("\n")
    except OSError as error:
        raise BadInput(f"{path} can't be read: {error.strerror}: give a file of lines, or a run") from None


def _plain(read: list[Line]) -> list[dict[str, Any]]:
    """The templates of these lines, most frequent first, each with its variables' kinds and the first line's values."""
    from collections import Counter

    first = {line.template.text: line for line in reversed(read)}
    counts = Counter(line.template.text for line in read)
    return [
        {
            "template": text,
            "shown": first[text].template.shown,
            "count": count,
            "categories": first[text].template.categories,
            "example": [value.text for value in first[text].values],
        }
        for text, count in counts.most_common()
    ]
