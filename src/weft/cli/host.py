"""Executing runs from a command: open the store, begin, show what goes on, print the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from weft.cli.failures import Interrupted, RunFailed, complain
from weft.cli.place import default_store

if TYPE_CHECKING:
    from weft.runtime.handle import Run
    from weft.runtime.policy import Policy
    from weft.runtime.runtime import Runtime
    from weft.store.base import ProcessRow

T = TypeVar("T")


async def with_runtime(
    place: str | None, durability: str, use: Callable[[Runtime], Awaitable[T]], policy: Policy | None = None,
    probes: Sequence[str] = (),
) -> T:  # fmt: skip
    """What `use` makes of a runtime. `policy`: that of what is started here, if it is not the one of this folder."""
    from weft.runtime.runtime import Runtime

    async with Runtime(place or default_store(), durability=durability, policy=policy, probes=probes) as runtime:  # type: ignore[arg-type]
        return await use(runtime)


def host(
    place: str | None, durability: str, begin: Callable[[Runtime], Awaitable[Run[Any]]], policy: Policy | None = None,
    probes: Sequence[str] = (),
) -> tuple[str, Any]:  # fmt: skip
    """Begin a run and see it through, with its progress and its questions: (id, result)."""
    import asyncio
    import signal

    from weft.cli.progress import Progress
    from weft.cli.prompt import Prompt
    from weft.cli.rights import refusals
    from weft.core.errors import Divergence, RunMoved, StoreError, WeftError

    begun: list[str] = []

    async def watch(runtime: Runtime) -> Any:
        progress = Progress(runtime)
        handle = await begin(runtime)
        begun.append(handle.id)
        await runtime.journal.barrier()
        progress.of(handle.id, (await runtime.row(handle.id)).workflow)
        with progress:
            async with Prompt(runtime, handle.id, progress):
                try:
                    return await handle
                except (StoreError, Divergence, RunMoved):
                    raise
                except Exception as error:
                    raise RunFailed(handle.id, error, await refusals(runtime, handle.id)) from error

    async def main() -> Any:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await with_runtime(place, durability, watch, policy, probes)

    try:
        return _first(begun, asyncio.run(main()))
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise Interrupted(begun[0] if begun else None) from None
    except WeftError as error:
        if begun and isinstance(error, StoreError):
            complain(f"run {begun[0]} stopped; when that is mended, continue it with: weft resume {begun[0]}")
        raise


def _first(begun: list[str], result: Any) -> tuple[str, Any]:
    return begun[0], result


def finish(end: tuple[str, Any], json: bool) -> None:
    """Print a result."""
    from weft.cli.render import out
    from weft.core.codec import to_plain

    id, result = end
    plain = to_plain(result)
    if json:
        out({"run": id, "state": "done", "result": plain})
    elif isinstance(plain, str):
        print(plain)
    elif plain is not None:
        out(plain)


def declare(row: ProcessRow, file: str | None) -> None:
    """Load the file that declares a run's workflow, unless that is done."""
    from weft.cli.load import load
    from weft.core.workflow import find_workflow, registry

    if row.workflow not in registry:
        load(file or row.source)
    find_workflow(row.workflow)


def say(plain: Any, words: str, json: bool) -> None:
    """Print one or the other."""
    from weft.cli.render import out

    out(plain) if json else print(words)


def from_json(text: str, what: str) -> Any:
    import json

    from weft.core.errors import BadInput

    try:
        return json.loads(text)
    except ValueError as error:
        raise BadInput(f"{what} {text[:80]!r} is not JSON: {error}; quote strings, as in '\"yes\"'") from None


def me() -> str:
    """Who sits at this terminal."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such user, as in some containers
        return "somebody"
