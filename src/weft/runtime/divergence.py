"""The words for code that no longer matches its journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from weft.core.codec import decode_args
from weft.core.errors import Divergence
from weft.core.record import AnyRecord, Outcome, Patch, Started
from weft.core.workflow import registry

if TYPE_CHECKING:
    from weft.runtime.pending import Pending
    from weft.runtime.process import Process


def _call(kind: str, name: str, args: Any) -> str:
    if not isinstance(args, bytes):
        return f"{kind} {name}(<{args.size:,} bytes>)"
    return f"{kind} {name}({shown(args)})"


def shown(args: bytes, most: int = 200) -> str:
    """Arguments as they were written, cut to `most` characters."""
    positional, keywords = decode_args(args)
    text = ", ".join([*map(repr, positional), *(f"{k}={v!r}" for k, v in keywords.items())])
    return text if len(text) <= most else text[: most - 3] + "..."


def diverged(process: Process, record: AnyRecord, found: Pending | None) -> Divergence:
    """The error that names the effect expected, the effect found, both code places, and what to do."""
    if isinstance(record, Outcome | Started):
        number = record.effect
        expected = f"{_call(record.kind, record.name, record.args)} from {record.place or 'the loop'}"
    elif isinstance(record, Patch):
        number, expected = process.issued + 1, f"patched({record.id!r})"
    else:
        number, expected = process.issued + 1, type(record).__name__
    if found is not None:
        actual = f"{_call(found.kind, found.name, found.args)} at {found.place or 'the loop'}"
    elif process.main is not None and process.main.done():
        actual = "the end of the body"
    else:
        actual = f"nothing (it has issued {process.issued} effects and waits)"
    workflow = registry.get(process.workflow)
    changed = workflow is not None and workflow.version != process.row.version
    cause = (
        "the workflow's code has changed since the run began"
        if changed
        else "the body is not deterministic, or a function it calls has changed"
    )
    return Divergence(
        f"run {process.id} ({process.workflow}) does not match its journal at effect {number}: "
        f"expected {expected}; found {actual}; {cause}. "
        f'Run it on the code it began with, guard the change with weft.patched("..."), '
        f"or take the new code from there: weft fork {process.id} --at {number}"
    )
