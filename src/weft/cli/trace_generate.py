"""`weft trace generate`: more runs like those there are, of the kinds that are asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from weft.cli.failures import reported

if TYPE_CHECKING:
    from weft.store.base import Store
    from weft.trace.generation import Case, Generator, Step, Validity

LOGS = (".xes", ".xes.gz", ".jsonl", ".jsonl.gz")
MOST = 10_000
"""Runs of a store that are learnt from, the newest."""


@reported
def generate(
    source: Annotated[
        str,
        typer.Argument(metavar="STORE|FILE", help="What to learn from: a store, XES or JSON lines of cases."),
    ],
    n: Annotated[int, typer.Option("-n", min=1, help="How many runs to make.")] = 100,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Only such runs: outcome=failed, length=long; repeat."),
    ] = None,
    mix: Annotated[
        list[str] | None, typer.Option(metavar="VALUE=SHARE", help="So many of this kind: failed=0.3; repeat.")
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What can be asked for; repeat. [default: outcome, label, model]"),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write. [default: stdout]")] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Keep what was learnt in this file; if it is there, take that, and learn nothing."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="How often to go over all runs in learning.")] = None,
    seed: Annotated[int, typer.Option(help="Another number makes other runs.")] = 0,
) -> None:
    """Make runs like those of a store or a log, as JSON lines: what they did, when, with whom, and what it took.

    Learns on the CPU, in minutes for some thousand events. All are checked by the rules that the runs learnt from keep.
    """
    asked, shares = _pairs(where, "--where"), _shares(mix)
    cases = _learnt_from(source)
    generator = _generator(cases, condition, model, epochs)
    made = generator.generate(n, asked, shares, _valid(cases), seed)
    if output is not None:
        with output.open("wb") as file:
            _write(made, file)
    else:
        _write(made, sys.stdout.buffer)
    print(f"{len(made):,} runs made; {generator.rejected:,} that broke a rule were made anew", file=sys.stderr)


def _write(cases: Sequence[Case], out: IO[bytes]) -> None:
    from weft.trace.generation import write_cases

    write_cases(cases, out)
    out.flush()


def _learnt_from(source: str) -> list[Case]:
    from weft.cli.look import ask
    from weft.core.errors import BadInput
    from weft.trace.generation import cases_of_runs, read_cases

    if source.endswith(LOGS):
        return read_cases(Path(source))
    if "://" not in source and not Path(source).is_file():
        raise BadInput(f"there is no file {source}: give a store, or a log that ends in {', '.join(LOGS)}")

    async def read(store: Store) -> list[Case]:
        return await cases_of_runs(store, await store.rows(limit=MOST))

    return ask(source, read)


def _generator(
    cases: Sequence[Case], conditions: Sequence[str] | None, model: Path | None, epochs: int | None
) -> Generator:
    from weft.trace.generation import Generator, Settings, fit

    if model is not None and model.exists():
        return Generator.load(model)
    generator = fit(cases, conditions, Settings() if epochs is None else Settings(epochs=epochs), _progress())
    if model is not None:
        generator.save(model)
    return generator


def _progress() -> Callable[[Step], None]:
    """On a terminal one line that changes; elsewhere a line for each tenth."""
    terminal = sys.stderr.isatty()

    def say(step: Step) -> None:
        last = step.epoch == step.epochs
        if terminal or last or step.epoch % max(1, step.epochs // 10) == 0:
            end = "\r" if terminal and not last else "\n"
            told = f"learning: {step.epoch} of {step.epochs}, {step.missed + step.divergence:.1f} nats a run"
            print(told, end=end, file=sys.stderr, flush=True)

    return say


def _valid(cases: Sequence[Case]) -> Validity:
    from weft.trace.generation import Validity

    return Validity.of(cases)


def _pairs(given: Sequence[str] | None, option: str) -> dict[str, str]:
    from weft.core.errors import BadInput

    found = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not (name and equals and value):
            raise BadInput(f"{option} {one}: write it as NAME=VALUE")
        found[name] = value
    return found


def _shares(given: Sequence[str] | None) -> dict[str, float]:
    from weft.core.errors import BadInput

    try:
        return {name: float(value) for name, value in _pairs(given, "--mix").items()}
    except ValueError:
        raise BadInput("--mix takes a share from 0 to 1, as in --mix failed=0.3") from None
